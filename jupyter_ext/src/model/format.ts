import { Words } from './words';

/** A number as people read it: four significant digits, no needless zeros. */
export function number(value: number | string | null | undefined): string {
  if (value === null || value === undefined) {
    return '–';
  }
  if (typeof value === 'string') {
    // Parameters are texts: long ones that are numbers are shortened as numbers are.
    return /^-?\d+\.\d{5,}(e[-+]?\d+)?$/.test(value) ? number(Number(value)) : value;
  }
  if (Number.isInteger(value) && Math.abs(value) < 1e7) {
    return String(value);
  }
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) {
    return value.toExponential(2);
  }
  return String(Number(value.toPrecision(4)));
}

/** How long ago a moment is. A clock that is a little ahead of ours is no future. */
export function ago(moment: string | number, trans: Words, now = Date.now()): string {
  const time = typeof moment === 'number' ? moment : Date.parse(moment);
  const seconds = Math.max(0, (now - time) / 1000);
  if (seconds < 45) {
    return trans.__('just now');
  }
  if (seconds < 3570) {
    return trans.__('%1 min ago', Math.max(1, Math.round(seconds / 60)));
  }
  if (seconds < 84600) {
    return trans.__('%1 h ago', Math.round(seconds / 3600));
  }
  const days = Math.round(seconds / 86400);
  return days < 60 ? trans.__('%1 d ago', days) : absolute(time).slice(0, 10);
}

/** The same where there is little room: `2 min`. */
export function agoShort(moment: string | number, trans: Words, now = Date.now()): string {
  const seconds = Math.max(0, (now - new Date(moment).getTime()) / 1000);
  if (seconds < 45) {
    return trans.__('now');
  }
  if (seconds < 3570) {
    return trans.__('%1 min', Math.max(1, Math.round(seconds / 60)));
  }
  return seconds < 84600
    ? trans.__('%1 h', Math.round(seconds / 3600))
    : trans.__('%1 d', Math.round(seconds / 86400));
}

/** A moment in the browser's time zone, to the second. */
export function absolute(moment: string | number): string {
  const time = new Date(moment);
  const two = (part: number) => String(part).padStart(2, '0');
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}
