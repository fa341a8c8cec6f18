/**
 * What the dialogs Promote and Roll back think: differences between the sides, gates in words, what is
 * still missing, and who was faster.
 */

import type { Gate, GoodVersion, Problem, PromotionPlan, Side } from '../api/types';
import { number } from './format';
import type { Words } from './words';

/** One line of champion and candidate side by side. */
export interface SideLine {
  readonly group: 'metric' | 'data' | 'signature' | 'drift' | 'param';
  readonly name: string;
  /** What the holder of the alias has; – where it has none, or nobody holds the alias. */
  readonly champion: string;
  readonly candidate: string;
  readonly differs: boolean;
  /** By how much a number changed, with its sign; empty where there is none to say. */
  readonly change: string;
}

/** What one gate says, ready to be shown. */
export interface GateLine {
  readonly name: string;
  readonly passed: boolean;
  readonly value: string;
  /** What the value is held against, in words; – where the gate does not say. */
  readonly limit: string;
  readonly message: string;
}

/** What a person typed into a dialog. */
export interface Typed {
  readonly reason: string;
  readonly name: string;
}

/** What is wrong with it, per field; `plan` is about what can't be mended by typing. */
export interface Faults {
  readonly reason?: string;
  readonly name?: string;
  readonly plan?: string;
}

const LONGEST_REASON = 2000;
/** What stands where there is nothing. */
export const NONE = '–';

/** The lines of the comparison: metrics first, then data, signature and drift, parameters last. */
export function compareSides(plan: PromotionPlan, words: Words): SideLine[] {
  const { champion, candidate } = plan;
  const metrics = union(candidate.metrics, champion?.metrics).map(name =>
    metricLine(name, champion?.metrics[name], candidate.metrics[name], champion)
  );
  const params = union(candidate.params, champion?.params).map(name =>
    line('param', name, champion?.params[name] ?? NONE, candidate.params[name] ?? NONE, champion)
  );
  const before = byRole(champion?.data ?? []);
  const after = byRole(candidate.data);
  const data = [...new Set([...after.keys(), ...before.keys()])].map(role =>
    line('data', role, before.get(role) ?? NONE, after.get(role) ?? NONE, champion)
  );
  const stated = (side: Side) => (side.signature ? words.__('stated') : words.__('missing'));
  const signature = line(
    'signature',
    words.__('Signature'),
    champion ? stated(champion) : NONE,
    stated(candidate),
    champion
  );
  const drift = line(
    'drift',
    words.__('Drifted columns'),
    champion ? drifted(champion, words) : NONE,
    drifted(candidate, words),
    champion
  );
  return [...metrics, ...data, signature, drift, ...params];
}

/** A gate with its value and limit. */
export function gateLine(gate: Gate, words: Words): GateLine {
  const { value, metric } = gate.values;
  const shown = typeof value === 'number' ? number(value) : NONE;
  return {
    name: typeof metric === 'string' ? `${gate.gate} ${metric}` : gate.gate,
    passed: gate.passed,
    value: shown,
    limit: limitOf(gate.values, words),
    message: gate.message
  };
}

/** What has to be mended before the dialog can do its work; an empty object: nothing. */
export function faultsOf(plan: PromotionPlan | null, typed: Typed, words: Words): Faults {
  return {
    ...reasonFault(typed.reason, words),
    ...(plan?.must_type && typed.name.trim() !== plan.must_type
      ? { name: words.__('Type %1 to confirm.', plan.must_type) }
      : {}),
    ...planFault(plan, words)
  };
}

/** Whether a reason is one. */
export function reasonFault(reason: string, words: Words): Faults {
  if (!reason.trim()) {
    return { reason: words.__('Say why: the ledger keeps the reason.') };
  }
  if (reason.length > LONGEST_REASON) {
    return { reason: words.__('At most %1 characters.', LONGEST_REASON) };
  }
  return {};
}

/**
 * Whether a refusal says that somebody was faster.
 *
 * @returns who holds the alias now; null where that is nobody; undefined: it is another refusal.
 */
export function holderAfterRace(problem: Problem): string | null | undefined {
  if (problem.code !== 'alias-moved') {
    return undefined;
  }
  const { current } = problem.details;
  return typeof current === 'string' ? current : null;
}

/**
 * Whether a try may be made again under its key. The server remembers what it answered below 500, refusals
 * too: what was refused for a reason is another try. What got no answer may have been done.
 */
export function keepsKey(status: number): boolean {
  return status >= 500 || status === 0;
}

/** What a roll back leaves, and whether there is anywhere to go. */
export function whereTo(current: string | null, to: string | null, words: Words): string {
  if (to === null) {
    return words.__('No earlier version was deployed well, so there is nothing to go back to.');
  }
  return current === null
    ? words.__('nobody → version %1', to)
    : words.__('version %1 → version %2', current, to);
}

/** Good versions with the one that a roll back goes to marked. */
export function goodLines(
  good: readonly GoodVersion[],
  current: string | null,
  to: string | null
): { readonly good: GoodVersion; readonly mark: 'now' | 'next' | '' }[] {
  let next = to;
  return good.map((one, place) => {
    if (place === 0 && one.version === current) {
      return { good: one, mark: 'now' };
    }
    if (one.version === next) {
      next = null;
      return { good: one, mark: 'next' };
    }
    return { good: one, mark: '' };
  });
}

function planFault(plan: PromotionPlan | null, words: Words): Faults {
  if (!plan) {
    return { plan: words.__('What stands against each other is not loaded yet.') };
  }
  if (plan.champion?.version === plan.candidate.version) {
    return { plan: words.__('Version %1 already is %2.', plan.candidate.version, plan.alias) };
  }
  if (!plan.allowed) {
    const refusing = plan.gates.filter(gate => !gate.passed).map(gate => gate.gate);
    return { plan: words.__('The gates refuse: %1.', refusing.join(', ')) };
  }
  return {};
}

function metricLine(
  name: string,
  before: number | null | undefined,
  after: number | null | undefined,
  against: Side | null
): SideLine {
  const both = typeof before === 'number' && typeof after === 'number';
  const difference = both ? after - before : 0;
  return {
    group: 'metric',
    name,
    champion: number(before),
    candidate: number(after),
    differs: !!against && (before ?? null) !== (after ?? null),
    change: difference ? `${difference > 0 ? '+' : '−'}${number(Math.abs(difference))}` : ''
  };
}

function line(
  group: SideLine['group'],
  name: string,
  champion: string,
  candidate: string,
  against: Side | null
): SideLine {
  return { group, name, champion, candidate, differs: !!against && champion !== candidate, change: '' };
}

function drifted(side: Side, words: Words): string {
  if (side.drifted === null || side.drifted === undefined) {
    return words.__('not watched');
  }
  return side.drifted.length ? side.drifted.join(', ') : words.__('none');
}

function union(
  first: Record<string, unknown>,
  second: Record<string, unknown> | undefined
): string[] {
  return [...new Set([...Object.keys(first), ...Object.keys(second ?? {})])].sort();
}

/** `ROLE NAME@VERSION` by role; several data sets of one role stand together. */
function byRole(uses: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const use of uses) {
    const space = use.indexOf(' ');
    const role = use.slice(0, space);
    const known = found.get(role);
    found.set(role, known ? `${known}, ${use.slice(space + 1)}` : use.slice(space + 1));
  }
  return found;
}

function limitOf(values: Record<string, unknown>, words: Words): string {
  const said: string[] = [];
  const add = (name: string, say: (shown: string) => string) => {
    const value = values[name];
    if (typeof value === 'number') {
      said.push(say(number(value)));
    }
  };
  add('min', shown => words.__('at least %1', shown));
  add('max', shown => words.__('at most %1', shown));
  add('tolerance', shown => words.__('at most %1 worse', shown));
  add('current', shown => words.__('champion %1', shown));
  return said.join(', ') || NONE;
}
