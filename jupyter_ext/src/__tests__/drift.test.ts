import { strict as assert } from 'node:assert';
import { describe, it } from 'node:test';

import type { DriftCell, DriftRow, DriftWindow } from '../api/types';
import {
  cellView,
  driftSentence,
  drifting,
  labelSentence,
  qualityLines,
  sealed,
  shareLine,
  spanOf,
  stepped,
  windowHead
} from '../model/drift';
import { english } from './english';

const CALM: DriftCell = { score: 0.02, threshold: 0.1, drifted: false, missing_ratio: 0, error: null };
const DRIFTED: DriftCell = { ...CALM, score: 0.3123, drifted: true };

function month(number: number, given: Partial<DriftWindow> = {}): DriftWindow {
  const two = (value: number) => String(value).padStart(2, '0');
  return {
    start: `2026-${two(number)}-01T00:00:00Z`,
    end: `2026-${two(number + 1)}-01T00:00:00Z`,
    rows: 100,
    labelled: 100,
    enough: true,
    share: 0,
    cells: [CALM, CALM],
    quality: {},
    quality_reference: {},
    ...given
  };
}

function row(windows: DriftWindow[]): DriftRow {
  return {
    endpoint: 'late-flights',
    model: 'late-flights',
    version: '1',
    columns: ['wind', 'delay'],
    windows,
    alerts: []
  };
}

describe('the windows shown', () => {
  it('are the newest twelve, and one can go back and forth', () => {
    assert.deepEqual(spanOf(30, 0), { from: 18, to: 30, older: true, newer: false });
    assert.deepEqual(spanOf(30, 12), { from: 6, to: 18, older: true, newer: true });
    assert.deepEqual(spanOf(30, 18), { from: 0, to: 12, older: false, newer: true });
    assert.deepEqual(spanOf(3, 0), { from: 0, to: 3, older: false, newer: false });
  });

  it('are never left', () => {
    assert.equal(stepped(30, 12, 12), 18);
    assert.equal(stepped(30, 0, -12), 0);
    assert.deepEqual(spanOf(5, 40), { from: 0, to: 5, older: false, newer: false });
  });

  it('are headed by as much of their start as their length needs', () => {
    assert.equal(windowHead(month(3)), '2026-03');
    const starting = { start: '2026-03-09T00:00:00Z' };
    assert.equal(windowHead(month(3, { ...starting, end: '2026-03-10T00:00:00Z' })), '03-09');
    assert.equal(windowHead(month(3, { ...starting, end: '2026-03-09T01:00:00Z' })), '03-09 00:00');
  });
});

describe('the line of the drifted share', () => {
  it('leaves out windows that say nothing and has its limit at one column', () => {
    const line = shareLine(
      row([month(1), month(2, { enough: false, share: 1 }), month(3, { share: 0.5 })]),
      100,
      20
    );
    assert.deepEqual(
      line.points.map(point => [point.x, point.y]),
      [
        [0, 20],
        [100, 0]
      ]
    );
    assert.equal(line.path, 'M0 20 L100 0');
    assert.equal(line.limit, 0.5);
    assert.equal(line.limitY, 0);
  });

  it('is a point for one window, and nothing for none', () => {
    assert.equal(shareLine(row([month(1)]), 100, 20).points[0].x, 50);
    assert.equal(shareLine(row([]), 100, 20).path, '');
  });
});

describe('a cell', () => {
  it('that drifted has a mark and its limit', () => {
    const view = cellView(DRIFTED, month(1), english);
    assert.equal(view.shown, '0.31 ▲');
    assert.match(view.told, /^0\.3123: drifted, above the limit 0\.1/);
  });

  it('of a window with too few rows is not judged', () => {
    const view = cellView(DRIFTED, month(1, { enough: false, rows: 7 }), english);
    assert.equal(view.state, 'unknown');
    assert.match(view.told, /7 rows: too few/);
  });

  it('that could not be scored says why', () => {
    const view = cellView({ ...CALM, score: null, error: 'all values are missing' }, month(1), english);
    assert.deepEqual([view.shown, view.told], ['?', 'Not scored: all values are missing']);
  });

  it('names missing values', () => {
    assert.match(cellView({ ...CALM, missing_ratio: 0.25 }, month(1), english).told, /25 % of the values/);
  });
});

describe('a watched model', () => {
  it('is told by its newest window that has enough rows', () => {
    const found = row([
      month(1, { cells: [CALM, DRIFTED] }),
      month(2, { enough: false, cells: [DRIFTED, DRIFTED] })
    ]);
    assert.equal(drifting(found), true);
    assert.equal(driftSentence(found, english), '1 of 2 columns drifted in the last window: delay.');
    assert.equal(drifting(row([])), null);
  });

  it('has the quality of the newest window with labels, beside its reference', () => {
    const found = row([
      month(1, { quality: { auc: 0.7 }, quality_reference: { auc: 0.72 } }),
      month(2)
    ]);
    assert.deepEqual(qualityLines(found), [{ name: 'auc', value: '0.7', reference: '0.72' }]);
  });

  it('says for how many predictions labels are missing', () => {
    const found = row([month(1), month(2, { labelled: 40 })]);
    assert.equal(labelSentence(found, english), 'Labels are missing for 60 of 200 predictions.');
    assert.match(labelSentence(row([month(1)]), english), /All 100/);
  });
});

describe('a report', () => {
  it('is told to reach nothing before anything else in it is read', () => {
    const page = sealed('<!doctype html><html><head lang="en"><script>1</script></head></html>');
    assert.match(page, /^<!doctype html><html><head lang="en"><meta [^>]*default-src/);
    assert.match(sealed('<p>bare</p>'), /^<meta /);
  });
});
