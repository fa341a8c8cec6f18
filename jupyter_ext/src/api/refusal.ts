import { Problem } from './types';

/** The server said no, and why. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem
  ) {
    super(problem.message);
  }
}

/** What went wrong, whatever was thrown. Without a status there was no answer at all. */
export function refusalOf(fault: unknown): Refusal {
  if (fault instanceof Refusal) {
    return fault;
  }
  const said = fault instanceof Error ? fault.message : String(fault);
  return new Refusal(0, {
    code: 'unreachable',
    message: `the Jupyter server does not answer: ${said}`,
    hint: 'check that it still runs',
    plugin: null,
    details: {}
  });
}
