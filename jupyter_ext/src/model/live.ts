import { RunRow } from '../api/types';

/** What the browser's EventSource offers of what is used here. */
export interface Stream {
  addEventListener(kind: string, listener: (event: { data: string }) => void): void;
  close(): void;
  readonly readyState: number;
}

/** EventSource.CLOSED: given up, e.g. because a proxy on the way does not let streams through. */
const CLOSED = 2;

/** Listens to the server's events of one project while there is something to hear. */
export class Live {
  constructor(
    private readonly _open: (address: string) => Stream,
    private readonly _runs: (rows: RunRow[]) => void
  ) {}

  /** Listen to an address, or to nothing. A stream that gave up is not opened again: polling goes on anyway. */
  listen(address: string | null): void {
    if (address === this._address) {
      return;
    }
    this._stream?.close();
    this._stream = null;
    this._address = address;
    if (address !== null) {
      this._stream = this._open(address);
      this._stream.addEventListener('runs', event => this._runs(JSON.parse(event.data).rows));
    }
  }

  /** Whether events come in, as far as is known. */
  get listening(): boolean {
    return this._stream !== null && this._stream.readyState !== CLOSED;
  }

  private _address: string | null = null;
  private _stream: Stream | null = null;
}
