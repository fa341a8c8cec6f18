/** A line of a chart. */
export interface Line {
  name: string;
  steps: readonly number[];
  values: readonly (number | null)[];
}

/** Round numbers that divide a span into about `wanted` parts, its ends included or just inside. */
export function ticks(low: number, high: number, wanted = 5): number[] {
  if (!(high > low)) {
    return [low];
  }
  const rough = (high - low) / wanted;
  const power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough)!;
  const found: number[] = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) {
    found.push(Number((index * step).toPrecision(12)));
  }
  return found;
}

/** The smallest and largest step and value of all lines; null where there is nothing to draw. */
export function extent(lines: readonly Line[]): { steps: [number, number]; values: [number, number] } | null {
  let [first, last, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const line of lines) {
    line.values.forEach((value, index) => {
      if (value !== null) {
        first = Math.min(first, line.steps[index]);
        last = Math.max(last, line.steps[index]);
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    });
  }
  if (first === Infinity) {
    return null;
  }
  if (low === high) {
    const around = Math.abs(low) * 0.1 || 1;
    [low, high] = [low - around, high + around];
  }
  return { steps: [first, Math.max(last, first + 1)], values: [low, high] };
}

/** All steps of all lines, in order. */
export function allSteps(lines: readonly Line[]): number[] {
  return [...new Set(lines.flatMap(line => line.steps))].sort((a, b) => a - b);
}

/** What a line says at a step, or before it where it has none there. */
export function valueAt(line: Line, step: number): number | null {
  let found: number | null = null;
  line.steps.forEach((at, index) => {
    if (at <= step) {
      found = line.values[index] ?? found;
    }
  });
  return found;
}

/** The one of some ordered numbers that is nearest. */
export function nearest(sorted: readonly number[], wanted: number): number {
  return sorted.reduce((best, one) => (Math.abs(one - wanted) < Math.abs(best - wanted) ? one : best));
}
