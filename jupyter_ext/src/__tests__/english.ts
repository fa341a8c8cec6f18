import type { Words } from '../model/words';

function filled(text: string, given: unknown[]): string {
  return text.replace(/%(\d)/g, (_, place) => String(given[Number(place) - 1]));
}

/** Words as they stand in the source. */
export const english: Words = {
  __: (text, ...given) => filled(text, given),
  _n: (one, many, count, ...given) => filled(count === 1 ? one : many, [count, ...given])
};
