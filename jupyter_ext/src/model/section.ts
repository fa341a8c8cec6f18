import { ISignal, Signal } from '@lumino/signaling';

import { refusalOf } from '../api/refusal';
import { Problem } from '../api/types';

/** What a section knows. `failed` keeps the last data; `stale` says that they may be older than the truth. */
export interface State<T> {
  phase: 'loading' | 'ready' | 'failed';
  data: T | null;
  problem: Problem | null;
  /** The HTTP status of the problem: 501 means that something is not installed, 0 that nobody answered. */
  status: number | null;
  /** When the data came, in milliseconds of the epoch. */
  updated: number | null;
  stale: boolean;
}

/** Milliseconds before what failed is asked again unasked. */
const RETRY = 15_000;

function nothing<T>(): State<T> {
  return { phase: 'loading', data: null, problem: null, status: null, updated: null, stale: false };
}

/** Data that are loaded when somebody looks at them and their stamp has changed. */
export abstract class Loaded<T> {
  /** Ask for the data. */
  protected abstract load(): Promise<T>;

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  state: State<T> = nothing<T>();

  /** Whether somebody looks; what changed meanwhile is loaded then. */
  get active(): boolean {
    return this._active;
  }

  set active(value: boolean) {
    this._active = value;
    this._catchUp();
  }

  /** The server's stamp of this section; another one than that of our data means that they are old. */
  offer(stamp: string): void {
    this._offered = stamp;
    this._catchUp();
  }

  /** Load now. Asked while loading, it loads once more after that. */
  refresh(): Promise<void> {
    if (this._running) {
      this._again = true;
      return this._running;
    }
    this._running = this._untilQuiet().finally(() => (this._running = null));
    return this._running;
  }

  /** Nobody answers any more: what is shown may be old. */
  markStale(): void {
    if (this.state.data !== null && !this.state.stale) {
      this.set({ stale: true });
    }
  }

  /** Forget all: this is another project now. */
  reset(): void {
    this._generation += 1;
    this._offered = null;
    this._loaded = null;
    this.state = nothing<T>();
    this._changed.emit();
  }

  /** Take over a part of the state and tell. */
  protected set(part: Partial<State<T>>): void {
    this.state = { ...this.state, ...part };
    this._changed.emit();
  }

  private _catchUp(): void {
    if (this._active && this._offered !== null && (this._offered !== this._loaded || this._mayRetry())) {
      void this.refresh();
    } else if (this._active && this.state.stale && this.state.phase === 'ready') {
      this.set({ stale: false });
    }
  }

  /** Whether it failed for a reason that may have gone by itself, some time ago. */
  private _mayRetry(): boolean {
    const { phase, status } = this.state;
    const passing = status === 0 || (status !== null && status >= 500 && status !== 501);
    return phase === 'failed' && passing && Date.now() - this._asked > RETRY;
  }

  private async _untilQuiet(): Promise<void> {
    do {
      this._again = false;
      await this._once();
    } while (this._again);
  }

  private async _once(): Promise<void> {
    const [generation, stamp] = [this._generation, this._offered];
    this._loaded = stamp;
    this._asked = Date.now();
    try {
      const data = await this.load();
      if (generation === this._generation) {
        const ready: State<T> = { ...nothing<T>(), phase: 'ready', data, updated: Date.now() };
        this.set(ready);
      }
    } catch (fault) {
      if (generation === this._generation) {
        const { status, problem } = refusalOf(fault);
        this.set({ phase: 'failed', problem, status, stale: this.state.data !== null });
      }
    }
    if (generation !== this._generation) {
      this._again = true;
    }
  }

  private _changed = new Signal<this, void>(this);
  private _active = false;
  private _offered: string | null = null;
  private _loaded: string | null = null;
  private _asked = 0;
  private _running: Promise<void> | null = null;
  private _again = false;
  private _generation = 0;
}

/** A section whose data come from one question. */
export class Section<T> extends Loaded<T> {
  constructor(private readonly _ask: () => Promise<T>) {
    super();
  }

  protected load(): Promise<T> {
    return this._ask();
  }
}
