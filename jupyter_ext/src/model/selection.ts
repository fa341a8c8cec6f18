import { ISignal, Signal } from '@lumino/signaling';

/** Which runs are selected, and the one that the keyboard is at. */
export class Selection {
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** In the order in which they were selected. */
  get ids(): string[] {
    return [...this._ids];
  }

  has(id: string): boolean {
    return this._ids.has(id);
  }

  /** The run that keys and commands without an argument are about. */
  get current(): string | null {
    return this._current;
  }

  set current(id: string | null) {
    if (id !== this._current) {
      this._current = id;
      this._changed.emit();
    }
  }

  /** Select, or no longer. The next range begins here. */
  toggle(id: string): void {
    if (!this._ids.delete(id)) {
      this._ids.add(id);
    }
    this._anchor = id;
    this._current = id;
    this._changed.emit();
  }

  /** Select everything from the last one that was toggled to this one; `between` knows the order. */
  extend(id: string, between: (from: string, to: string) => string[]): void {
    const from = this._anchor ?? this._current ?? id;
    between(from, id).forEach(one => this._ids.add(one));
    this._anchor = from;
    this._current = id;
    this._changed.emit();
  }

  clear(): void {
    this._ids.clear();
    this._anchor = null;
    this._changed.emit();
  }

  private _changed = new Signal<this, void>(this);
  private _ids = new Set<string>();
  private _current: string | null = null;
  private _anchor: string | null = null;
}
