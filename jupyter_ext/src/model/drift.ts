/**
 * What the section Drift thinks: which windows are shown, the line of the drifted share, cells in words.
 */

import type { DriftCell, DriftRow, DriftWindow } from '../api/types';
import { number } from './format';
import type { Words } from './words';
import { percent } from './words';

/** Windows that stand side by side. */
export const SHOWN_WINDOWS = 12;

/** Some of the windows, oldest first. */
export interface Span {
  /** Place of the first window that is shown. */
  readonly from: number;
  /** Place behind the last one. */
  readonly to: number;
  readonly older: boolean;
  readonly newer: boolean;
}

/** A cell of the heatmap. */
export interface CellView {
  readonly state: 'drifted' | 'calm' | 'unknown';
  /** Number and mark: what is seen. */
  readonly shown: string;
  /** The whole story, for the tooltip and screen readers. */
  readonly told: string;
}

/** The drifted share over time in the coordinates of a drawing. */
export interface ShareLine {
  readonly points: readonly { readonly x: number; readonly y: number; readonly share: number }[];
  readonly path: string;
  /** Where one drifted column lies, from which on the rule about columns speaks. */
  readonly limit: number | null;
  readonly limitY: number | null;
}

/** A measure of quality beside what it was on the reference. */
export interface QualityLine {
  readonly name: string;
  readonly value: string;
  readonly reference: string;
}

/**
 * The windows shown, at most twelve.
 *
 * @param total how many there are.
 * @param back how many windows the view was moved into the past.
 */
export function spanOf(total: number, back: number, shown = SHOWN_WINDOWS): Span {
  const furthest = Math.max(0, total - shown);
  const to = total - Math.min(Math.max(0, back), furthest);
  const from = Math.max(0, to - shown);
  return { from, to, older: from > 0, newer: to < total };
}

/** How far back a view is after a step; it never leaves the windows. */
export function stepped(total: number, back: number, by: number, shown = SHOWN_WINDOWS): number {
  return Math.min(Math.max(0, back + by), Math.max(0, total - shown));
}

/** The line of the drifted share. Windows with too few rows are left out: they say nothing. */
export function shareLine(row: DriftRow, width: number, height: number): ShareLine {
  const scored = row.windows.filter(window => window.enough);
  const limit = row.columns.length ? 1 / row.columns.length : null;
  const highest = Math.max(0.1, limit ?? 0, ...scored.map(window => window.share));
  const y = (share: number) => round(height - (share / highest) * height);
  const x = (place: number) =>
    round(scored.length > 1 ? (place / (scored.length - 1)) * width : width / 2);
  const points = scored.map((window, place) => ({
    x: x(place),
    y: y(window.share),
    share: window.share
  }));
  return {
    points,
    path: points.map((point, place) => `${place ? 'L' : 'M'}${point.x} ${point.y}`).join(' '),
    limit,
    limitY: limit === null ? null : y(limit)
  };
}

/** What a cell shows and tells. Its mark says the same as its colour. */
export function cellView(cell: DriftCell | null, window: DriftWindow, words: Words): CellView {
  if (cell === null) {
    return { state: 'unknown', shown: '–', told: words.__('The window has no such column.') };
  }
  if (cell.score === null || cell.score === undefined) {
    const why = cell.error ?? words.__('no reason given');
    return { state: 'unknown', shown: '?', told: words.__('Not scored: %1', why) };
  }
  const score = number(cell.score);
  const short = number(Number(cell.score.toPrecision(2)));
  const limit = number(cell.threshold);
  const missing = cell.missing_ratio
    ? ` ${words.__('%1 of the values are missing.', percent(cell.missing_ratio))}`
    : '';
  if (!window.enough) {
    const told = words.__('%1 of %2 rows: too few to judge.', score, window.rows);
    return { state: 'unknown', shown: `${short} ·`, told: told + missing };
  }
  return cell.drifted
    ? {
        state: 'drifted',
        shown: `${short} ▲`,
        told: words.__('%1: drifted, above the limit %2.', score, limit) + missing
      }
    : {
        state: 'calm',
        shown: short,
        told: words.__('%1: within the limit %2.', score, limit) + missing
      };
}

/** The row's newest judged window in a sentence. */
export function driftSentence(row: DriftRow, words: Words): string {
  const last = newest(row);
  if (!last) {
    return words.__('No window has enough rows yet.');
  }
  const columns = driftedColumns(row, last);
  return columns.length
    ? words.__(
        '%1 of %2 columns drifted in the last window: %3.',
        columns.length,
        row.columns.length,
        columns.join(', ')
      )
    : words.__('None of %1 columns drifted in the last window.', row.columns.length);
}

/** Whether the newest judged window has drifted columns; null: there is none to judge. */
export function drifting(row: DriftRow): boolean | null {
  const last = newest(row);
  return last ? driftedColumns(row, last).length > 0 : null;
}

/** Measures of the newest window that has some, each with its reference. */
export function qualityLines(row: DriftRow): QualityLine[] {
  const last = [...row.windows].reverse().find(window => Object.keys(window.quality).length);
  return last
    ? Object.keys(last.quality)
        .sort()
        .map(name => ({
          name,
          value: number(last.quality[name]),
          reference: number(last.quality_reference[name])
        }))
    : [];
}

/** How many rows wait for their labels, in a sentence. */
export function labelSentence(row: DriftRow, words: Words): string {
  const rows = row.windows.reduce((sum, window) => sum + window.rows, 0);
  const labelled = row.windows.reduce((sum, window) => sum + window.labelled, 0);
  if (!rows) {
    return words.__('There are no predictions yet.');
  }
  const missing = rows - labelled;
  return missing > 0
    ? words.__('Labels are missing for %1 of %2 predictions.', missing, rows)
    : words.__('All %1 predictions have their labels.', rows);
}

/** A window's head: as much of its start as the length of the windows needs. */
export function windowHead(window: DriftWindow): string {
  const days = (Date.parse(window.end) - Date.parse(window.start)) / 86_400_000;
  const start = window.start.replace('T', ' ');
  if (days >= 28) {
    return start.slice(0, 7);
  }
  return days >= 1 ? start.slice(5, 10) : start.slice(5, 16);
}

function newest(row: DriftRow): DriftWindow | undefined {
  return [...row.windows].reverse().find(window => window.enough);
}

function driftedColumns(row: DriftRow, window: DriftWindow): string[] {
  return row.columns.filter((_, place) => window.cells[place]?.drifted);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/**
 * A page that reaches nothing outside of itself: the rule that the server gives it, inside the page. Such
 * pages are made for a white ground, and a frame shows the theme's through.
 */
export function sealed(page: string): string {
  const policy = "default-src 'unsafe-inline' data: blob:";
  const rule = `<meta http-equiv="Content-Security-Policy" content="${policy}">`;
  const ground = '<style>:root { background: #fff; color-scheme: light; }</style>';
  const head = /<head(\s[^>]*)?>/i;
  return head.test(page) ? page.replace(head, tag => tag + rule + ground) : rule + ground + page;
}
