/**
 * What the section Data thinks: states in words, and following a push or pull until it ends.
 */

import type { DataRow, Job } from '../api/types';
import type { Words } from './words';

const FIRST_WAIT = 300;
const LONGEST_WAIT = 2000;

/** How a data set stands here, as a light and in words. */
export function stateOf(row: DataRow, words: Words): { light: 'ok' | 'warning' | 'failed'; word: string } {
  switch (row.state) {
    case 'unchanged':
      return { light: 'ok', word: words.__('unchanged') };
    case 'modified':
      return { light: 'warning', word: words.__('modified since it was added') };
    case 'missing':
      return { light: 'failed', word: words.__('missing here') };
  }
}

/** How it stands against the remote. */
export function publishedWord(row: DataRow, words: Words): string {
  return row.published ? words.__('published') : words.__('ahead of the remote');
}

/** Done by all, 0 to 1; null: nobody knows how much it is. */
export function progressOf(job: Job): number | null {
  if (job.state === 'finished') {
    return 1;
  }
  return job.total ? Math.min(1, job.done / job.total) : null;
}

/** What a job does now, in words. */
export function jobWords(job: Job, words: Words): string {
  const what = job.what === 'pull' ? words.__('Pull') : words.__('Push');
  if (job.state === 'finished') {
    return words.__('%1: done', what);
  }
  if (job.state === 'failed') {
    return words.__('%1: failed', what);
  }
  const done = job.total ? words.__('%1 of %2', job.done, job.total) : '';
  return [`${what}: ${job.doing}`.trim(), done].filter(Boolean).join(', ');
}

/**
 * Ask about a job until it has ended; each answer is told. The waits grow: a long job is not asked often.
 *
 * @param ask gets the job's newest state.
 * @param wait makes a pause of so many milliseconds.
 */
export async function follow(
  job: Job,
  ask: (id: string) => Promise<Job>,
  tell: (job: Job) => void,
  wait: (milliseconds: number) => Promise<void> = pause
): Promise<Job> {
  let known = job;
  let rest = FIRST_WAIT;
  tell(known);
  while (known.state === 'running') {
    await wait(rest);
    rest = Math.min(LONGEST_WAIT, rest * 1.5);
    known = await ask(known.id);
    tell(known);
  }
  return known;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, milliseconds));
}
