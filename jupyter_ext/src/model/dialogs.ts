/**
 * The dialogs Promote and Roll back without their looks: what is loaded, typed, refused and done.
 */

import { ISignal, Signal } from '@lumino/signaling';

import { refusalOf } from '../api/refusal';
import type { Move, Problem, PromotionPlan, RollbackPlan } from '../api/types';
import { Faults, Typed, faultsOf, holderAfterRace, keepsKey, reasonFault } from './promotion';
import type { Words } from './words';

/** What asks the server about the current project. */
export interface Asking {
  get<T>(path: string[], query?: Record<string, string>): Promise<T>;
  post<T>(path: string[], body: unknown, key?: string): Promise<T>;
}

/** What both dialogs are: a plan is shown, a reason typed, and one change made. */
abstract class Asked<Plan> {
  constructor(
    protected readonly asking: Asking,
    readonly model: string,
    protected readonly words: Words,
    private readonly makeKey: () => string
  ) {
    this.key = makeKey();
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  plan: Plan | null = null;
  /** Why the plan could not be loaded. */
  problem: Problem | null = null;
  typed: Typed = { reason: '', name: '' };
  /** What is wrong with what was typed; said only once somebody tried to go on. */
  faults: Faults = {};
  /** Why the last try was refused. */
  refused: Problem | null = null;
  /** Who was faster, in a sentence; empty: nobody. */
  race = '';
  busy = false;

  /** Load what is shown. A later question wins over an earlier one that answers late. */
  async load(): Promise<void> {
    const turn = ++this.turn;
    this.plan = null;
    this.problem = null;
    this.tell();
    try {
      const plan = await this.ask();
      if (turn === this.turn) {
        this.plan = plan;
      }
    } catch (error) {
      if (turn === this.turn) {
        this.problem = refusalOf(error).problem;
      }
    }
    this.recheck();
    this.tell();
  }

  /** Take over what was typed. */
  type(typed: Partial<Typed>): void {
    this.typed = { ...this.typed, ...typed };
    this.recheck();
    this.tell();
  }

  /** Make the change. Null: it was not made, and the state says why. */
  async submit(): Promise<Move | null> {
    if (this.busy) {
      return null;
    }
    this.faults = this.check();
    if (Object.keys(this.faults).length) {
      this.tell();
      return null;
    }
    this.busy = true;
    this.refused = null;
    this.tell();
    try {
      return await this.change(this.key);
    } catch (error) {
      await this.refuse(error);
      return null;
    } finally {
      this.busy = false;
      this.tell();
    }
  }

  protected abstract ask(): Promise<Plan>;
  protected abstract change(key: string): Promise<Move>;
  protected abstract check(): Faults;

  /** A fault that was said goes as soon as it is mended, by typing or by the plan that was waited for. */
  private recheck(): void {
    if (Object.keys(this.faults).length) {
      this.faults = this.check();
    }
  }

  private async refuse(error: unknown): Promise<void> {
    this.refused = refusalOf(error).problem;
    if (!keepsKey(refusalOf(error).status)) {
      this.key = this.makeKey();
    }
    if (holderAfterRace(this.refused) !== undefined) {
      this.race = this.refused.message;
      this.refused = null;
      await this.load();
    }
  }

  protected tell(): void {
    this._changed.emit();
  }

  private key: string;
  private turn = 0;
  private readonly _changed = new Signal<this, void>(this);
}

/** The dialog that gives an alias to a version. */
export class Promoting extends Asked<PromotionPlan> {
  constructor(
    asking: Asking,
    model: string,
    readonly version: string,
    public alias: string,
    words: Words,
    makeKey: () => string
  ) {
    super(asking, model, words, makeKey);
  }

  /** Ask about another alias. What was typed stays. */
  async towards(alias: string): Promise<void> {
    if (alias === this.alias) {
      return;
    }
    this.alias = alias;
    this.race = '';
    this.refused = null;
    await this.load();
  }

  protected ask(): Promise<PromotionPlan> {
    const query = { version: this.version, alias: this.alias };
    return this.asking.get<PromotionPlan>(['models', this.model, 'promotion'], query);
  }

  protected change(key: string): Promise<Move> {
    const wish = {
      version: this.version,
      alias: this.alias,
      reason: this.typed.reason.trim(),
      expect: this.plan?.champion?.version ?? ''
    };
    return this.asking.post<Move>(['models', this.model, 'promote'], wish, key);
  }

  protected check(): Faults {
    return faultsOf(this.plan, this.typed, this.words);
  }
}

/** The dialog that gives an alias back to the last version that was deployed well. */
export class RollingBack extends Asked<RollbackPlan> {
  constructor(
    asking: Asking,
    model: string,
    readonly alias: string,
    reason: string,
    words: Words,
    makeKey: () => string
  ) {
    super(asking, model, words, makeKey);
    this.typed = { reason, name: '' };
  }

  protected ask(): Promise<RollbackPlan> {
    return this.asking.get<RollbackPlan>(['models', this.model, 'rollback'], { alias: this.alias });
  }

  protected change(key: string): Promise<Move> {
    const wish = {
      alias: this.alias,
      reason: this.typed.reason.trim(),
      expect: this.plan?.current ?? ''
    };
    return this.asking.post<Move>(['models', this.model, 'rollback'], wish, key);
  }

  protected check(): Faults {
    const faults = reasonFault(this.typed.reason, this.words);
    if (!this.plan) {
      return { ...faults, plan: this.words.__('What it would go back to is not loaded yet.') };
    }
    return this.plan.to === null
      ? { ...faults, plan: this.words.__('There is nothing to go back to.') }
      : faults;
  }
}
