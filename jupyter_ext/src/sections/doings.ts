import { ISignal, Signal } from '@lumino/signaling';
import { useEffect, useReducer } from 'react';

import type { Job } from '../api/types';
import { follow } from '../model/transfer';
import type { YardModel } from '../model/yard';

/** What the sections do: pushes and pulls under way, and word that something was changed. */
export class Doings {
  constructor(private readonly model: YardModel) {}

  /** The last push or pull; null: there was none, or it was put away. */
  job: Job | null = null;

  /** The job is at another place. */
  get moved(): ISignal<this, void> {
    return this._moved;
  }

  /** Something was changed: what shows it loads again. */
  get done(): ISignal<this, void> {
    return this._done;
  }

  /** Tell everybody that something was changed. */
  async tell(): Promise<void> {
    this._done.emit();
    await this.model.refresh();
  }

  /** Push or pull data sets, and follow it to its end. None named means all. */
  async transfer(what: 'push' | 'pull', names: readonly string[]): Promise<Job> {
    const started = await this.model.post<Job>(['data', what], { names });
    const ended = await follow(
      started,
      id => this.model.get<Job>(['jobs', id]),
      job => this.show(job)
    );
    await this.tell();
    return ended;
  }

  /** Show a job, or none. */
  show(job: Job | null): void {
    this.job = job;
    this._moved.emit();
  }

  private readonly _moved = new Signal<this, void>(this);
  private readonly _done = new Signal<this, void>(this);
}

const known = new WeakMap<YardModel, Doings>();

/** The doings of a model: always the same for the same model. */
export function doingsOf(model: YardModel): Doings {
  let found = known.get(model);
  if (!found) {
    found = new Doings(model);
    known.set(model, found);
  }
  return found;
}

/** How often something was changed since the component is there: who asks by it asks again after a change. */
export function useDone(model: YardModel): number {
  const [count, again] = useReducer((times: number) => times + 1, 0);
  useEffect(() => {
    const { done } = doingsOf(model);
    done.connect(again);
    return () => {
      done.disconnect(again);
    };
  }, [model]);
  return count;
}
