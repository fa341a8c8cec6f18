import { RunRow } from '../api/types';
import { number } from './format';
import { Words } from './words';

/** What a column is called: `metric:auc` is `auc`. */
export function columnTitle(column: string, trans: Words): string {
  const known: Record<string, string> = {
    started: trans.__('When'),
    user: trans.__('User'),
    status: trans.__('Status'),
    curve: trans.__('Curve')
  };
  return known[column] ?? column.slice(column.indexOf(':') + 1);
}

/** Whether the server can sort by it. */
export function isSortable(column: string): boolean {
  return column !== 'curve';
}

/** What stands in a cell of the list, except for moments and curves. */
export function cellText(row: RunRow, column: string): string {
  if (column.startsWith('metric:')) {
    return number(row.metrics[column.slice('metric:'.length)]);
  }
  if (column.startsWith('param:')) {
    return row.params[column.slice('param:'.length)] ?? '–';
  }
  return column === 'user' ? row.user : column === 'status' ? row.status : '';
}

/** All columns that can be chosen, in the order in which they are offered. */
export function allColumns(metrics: readonly string[], params: readonly string[]): string[] {
  return [
    'started',
    'curve',
    'user',
    'status',
    ...metrics.map(name => `metric:${name}`),
    ...params.map(name => `param:${name}`)
  ];
}

/** The rows between which the list is drawn: what is on the screen and some around it. */
export function window(top: number, height: number, rowHeight: number, total: number): [number, number] {
  const around = 8;
  const first = Math.max(0, Math.floor(top / rowHeight) - around);
  const last = Math.min(total - 1, Math.ceil((top + height) / rowHeight) + around);
  return [first, last];
}
