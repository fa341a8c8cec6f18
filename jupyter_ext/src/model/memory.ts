/** What the browser keeps for a user: `localStorage`, or a map in tests. */
export interface Store {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** A value that the browser remembers. Where it can't (storage full or forbidden) it lives as long as the page. */
export class Remembered<T> {
  constructor(
    private readonly _store: Store,
    private readonly _key: string,
    private readonly _otherwise: T
  ) {}

  get value(): T {
    if (this._value === undefined) {
      this._value = this._read();
    }
    return this._value;
  }

  set value(value: T) {
    this._value = value;
    try {
      this._store.setItem(this._key, JSON.stringify(value));
    } catch {
      // remembered until the page goes
    }
  }

  private _read(): T {
    try {
      const text = this._store.getItem(this._key);
      return text === null ? this._otherwise : (JSON.parse(text) as T);
    } catch {
      return this._otherwise;
    }
  }

  private _value: T | undefined;
}
