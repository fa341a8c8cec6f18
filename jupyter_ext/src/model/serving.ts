/**
 * What the section Serving thinks: states and traffic in words, and the JSON of the editor.
 */

import type { ConditionRow, EndpointRow, RevisionRow } from '../api/types';
import { number } from './format';
import type { Words } from './words';
import { percent } from './words';

/** What the editor holds: rows to ask about, or what is wrong with its text. */
export type Request = { readonly instances: unknown[] } | { readonly fault: string };

const MOST_INSTANCES = 1000;

/** Whether an endpoint answers, in a word, and as the light that stands beside it. */
export function stateOf(
  row: EndpointRow,
  words: Words
): { light: 'ok' | 'warning' | 'failed'; word: string } {
  if (!row.ready) {
    const failed = row.revisions.some(revision => revision.failed);
    return failed
      ? { light: 'failed', word: words.__('failed') }
      : { light: 'warning', word: words.__('not ready') };
  }
  const degraded = row.revisions.some(revision => revision.traffic > 0 && !revision.ready);
  return degraded
    ? { light: 'warning', word: words.__('degraded') }
    : { light: 'ok', word: words.__('ready') };
}

/** The light of a condition: what is not true by itself may still become so. `Stopped` is better not true. */
export function standing(condition: ConditionRow): 'ok' | 'failed' | 'unknown' {
  if (condition.status === 'Unknown') {
    return 'unknown';
  }
  const wanted = condition.type === 'Stopped' ? 'False' : 'True';
  return condition.status === wanted ? 'ok' : 'failed';
}

/** A revision's state in words. */
export function revisionState(revision: RevisionRow, words: Words): string {
  if (revision.failed) {
    return words.__('failed');
  }
  return revision.ready ? words.__('ready') : words.__('not ready');
}

/** The revisions that get traffic, in words, the biggest share first. */
export function trafficWords(row: EndpointRow, words: Words): string {
  const serving = sharing(row);
  if (!serving.length) {
    return words.__('No revision gets traffic.');
  }
  return serving
    .map(revision => words.__('version %1 gets %2 %', versionOf(revision), revision.traffic))
    .join(', ');
}

/** The revisions that get traffic, the biggest share first. */
export function sharing(row: EndpointRow): RevisionRow[] {
  return row.revisions
    .filter(revision => revision.traffic > 0)
    .sort((one, other) => other.traffic - one.traffic);
}

/** What a revision serves: the version, or its own name where it serves no registered version. */
export function versionOf(revision: RevisionRow): string {
  return revision.version || revision.name;
}

/** Latency and errors in words, per revision with traffic; empty where nothing was asked or is known. */
export function speedWords(row: EndpointRow, words: Words): string {
  const known = sharing(row).filter(revision => revision.requests);
  const speeds = known.map(revision =>
    words.__(
      '95 % within %1, %2 errors of %3',
      latency(revision, words),
      percent((revision.errors ?? 0) / revision.requests!),
      number(revision.requests)
    )
  );
  return known.length === 1
    ? speeds[0]
    : known
        .map((revision, place) => words.__('version %1: %2', versionOf(revision), speeds[place]))
        .join('; ');
}

/** How long 95 % of a revision's answers took at the most. */
export function latency(revision: RevisionRow, words: Words): string {
  return typeof revision.p95_ms === 'number' ? words.__('%1 ms', number(revision.p95_ms)) : '–';
}

/** The newest revision's share that a field holds; null: it is none. */
export function shareIn(text: string): number | null {
  const said = text.trim();
  const share = Number(said);
  return /^\d{1,3}$/.test(said) && share <= 100 ? share : null;
}

/** The rows that the editor's text asks about: a list, or an object with `instances`. */
export function requestIn(text: string, words: Words): Request {
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch (fault) {
    return { fault: words.__('This is no JSON: %1', (fault as Error).message) };
  }
  const instances =
    said !== null && typeof said === 'object' && !Array.isArray(said)
      ? (said as { instances?: unknown }).instances
      : said;
  if (!Array.isArray(instances)) {
    return { fault: words.__('Write a list of rows, or an object whose "instances" is one.') };
  }
  if (!instances.length || instances.length > MOST_INSTANCES) {
    return { fault: words.__('Ask about 1 to %1 rows.', MOST_INSTANCES) };
  }
  return { instances };
}

/** The editor's first text. */
export function editorText(example: readonly unknown[]): string {
  return JSON.stringify(example, null, 2);
}
