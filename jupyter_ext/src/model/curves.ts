import { ISignal, Signal } from '@lumino/signaling';

import { Curve } from '../api/types';

/** Questions that are on their way at once. */
const AT_ONCE = 2;
/** Curves that are kept. */
const MOST = 2000;

/** The small curves of the list: asked for when they are looked at, a few at a time, and kept. */
export class Curves {
  constructor(private readonly _ask: (run: string, name: string) => Promise<Curve[]>) {}

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The values of a metric over its steps; null: not known, or not yet. */
  of(run: string, name: string): readonly (number | null)[] | null {
    const found = this._known.get(run);
    return found?.name === name ? found.values : null;
  }

  /** Say which runs are on the screen; those that were waited for before and went are not asked any more. */
  want(runs: readonly string[], name: string): void {
    this._waiting = runs
      .filter(run => this._known.get(run)?.name !== name || this._old.has(run))
      .map(run => [run, name]);
    this._next();
  }

  /** This run goes on: show what is known, and ask again when it is looked at. */
  forget(run: string): void {
    if (this._known.has(run)) {
      this._old.add(run);
    }
  }

  clear(): void {
    this._known.clear();
    this._old.clear();
    this._waiting = [];
  }

  private _next(): void {
    while (this._asked.size < AT_ONCE && this._waiting.length) {
      const [run, name] = this._waiting.shift()!;
      if (!this._asked.has(run)) {
        void this._fetch(run, name);
      }
    }
  }

  private async _fetch(run: string, name: string): Promise<void> {
    this._asked.add(run);
    this._old.delete(run);
    let values: (number | null)[] = [];
    try {
      values = (await this._ask(run, name)).find(curve => curve.name === name)?.values ?? [];
    } catch {
      // a decoration that can't be had is left out: the list itself says what is wrong
    }
    if (this._known.size >= MOST) {
      this._known.delete(this._known.keys().next().value as string);
    }
    this._known.set(run, { name, values });
    this._asked.delete(run);
    this._changed.emit();
    this._next();
  }

  private _changed = new Signal<this, void>(this);
  private _known = new Map<string, { name: string; values: readonly (number | null)[] }>();
  private _old = new Set<string>();
  private _waiting: [string, string][] = [];
  private _asked = new Set<string>();
}
