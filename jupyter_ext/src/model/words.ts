/** Words for people, without any import from JupyterLab: its translation bundles fit this interface. */

/** What translates; `%1` is the first argument. */
export interface Words {
  __(text: string, ...given: unknown[]): string;
  _n(one: string, many: string, count: number, ...given: unknown[]): string;
}

/** A share of 0 to 1 as percent, whole where that says enough. */
export function percent(share: number): string {
  const hundredth = share * 100;
  const digits = hundredth !== 0 && Math.abs(hundredth) < 10 ? 1 : 0;
  return `${Number(hundredth.toFixed(digits))} %`;
}

/** A length of time in its two biggest units. */
export function lasting(seconds: number, words: Words): string {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days) {
    return words.__('%1 d %2 h', days, hours % 24);
  }
  if (hours) {
    return words.__('%1 h %2 min', hours, minutes % 60);
  }
  return minutes ? words.__('%1 min', minutes) : words.__('%1 s', Math.floor(seconds));
}

/** A size in bytes for people. */
export function size(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
