import { ISignal, Signal } from '@lumino/signaling';

import { Curve } from '../api/types';

/** Questions that are on their way at once. */
const AT_ONCE = 2;
/** Milliseconds for which the curve of a run that goes on is good. */
const GOOD = 5000;
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
      .filter(run => this._known.get(run)?.name !== name || this._isOld(run))
      .map(run => [run, name]);
    this._next();
  }

  /** This run went on: show what is known, and ask again when it is looked at, at once if it has ended. */
  forget(run: string, ended = false): void {
    const found = this._known.get(run);
    if (found) {
      this._old.add(run);
      found.asked = ended ? 0 : found.asked;
    }
  }

  clear(): void {
    this._known.clear();
    this._old.clear();
    this._waiting = [];
  }

  private _isOld(run: string): boolean {
    return this._old.has(run) && Date.now() - this._known.get(run)!.asked > GOOD;
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
    this._known.set(run, { name, values, asked: Date.now() });
    this._asked.delete(run);
    this._next();
    if (!this._asked.size) {
      this._changed.emit(); // once for all: the list is drawn anew
    }
  }

  private _changed = new Signal<this, void>(this);
  private _known = new Map<string, { name: string; values: readonly (number | null)[]; asked: number }>();
  private _old = new Set<string>();
  private _waiting: [string, string][] = [];
  private _asked = new Set<string>();
}
