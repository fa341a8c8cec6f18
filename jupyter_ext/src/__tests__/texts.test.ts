import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { allSteps, extent, nearest, ticks, valueAt } from '../model/chart';
import { comparisonCode, runCode } from '../model/code';
import { window } from '../model/columns';
import { mostLike, sideBySide } from '../model/diff';
import { absolute, ago, number } from '../model/format';
import { VERSION } from '../version';

const words = {
  __: (text: string, ...given: unknown[]) =>
    text.replace(/%(\d)/g, (_, index) => String(given[Number(index) - 1])),
  _n: (one: string, many: string, count: number, ...given: unknown[]): string =>
    words.__(count === 1 ? one : many, ...given)
};

test('panel and package have one version', () => {
  assert.equal(JSON.parse(readFileSync('package.json', 'utf8')).version, VERSION);
});

test('numbers are short and true', () => {
  assert.deepEqual(
    [0.712345, 3, 1234567, 123456789.5, 0.00001234, null, 'x', -0.5, '0.008333333333333333', '1.25'].map(
      number
    ),
    ['0.7123', '3', '1234567', '1.23e+8', '1.23e-5', '–', 'x', '-0.5', '0.008333', '1.25']
  );
});

test('moments are said as people say them', () => {
  const now = Date.parse('2026-05-10T12:00:00Z');
  const said = (seconds: number) => ago(now - seconds * 1000, words, now);
  assert.deepEqual([5, 100, 7200, 200_000, -30].map(said), [
    'just now',
    '2 min ago',
    '2 h ago',
    '2 d ago',
    'just now'
  ]);
  assert.match(said(9_000_000), /^\d{4}-\d\d-\d\d$/);
  assert.match(absolute('2026-05-10T12:00:00Z'), /^2026-05-\d\d \d\d:00:00$/);
});

test('code holds ids as Python writes them', () => {
  assert.match(runCode('a"b'), /yard\.runs\.get\("a\\"b"\)/);
  assert.match(comparisonCode(['a', 'b']), /compare\(\[\n {4}"a",\n {4}"b",\n\]\)/);
});

test('common lines stand beside each other', () => {
  const pairs = sideBySide('a\nb\nc', 'a\nx\nc');
  assert.deepEqual(
    pairs.map(pair => [pair.left, pair.right, pair.same]),
    [
      ['a', 'a', true],
      ['b', null, false],
      [null, 'x', false],
      ['c', 'c', true]
    ]
  );
  assert.equal(mostLike('fit(x)\nlog(y)', ['nothing', 'fit(x)', 'fit(x)\nlog(y)\nmore']), 2);
  assert.equal(mostLike('fit(x)', ['other']), -1);
});

test('a window of the list has some rows around it and ends with the list', () => {
  assert.deepEqual(window(0, 280, 28, 10_000), [0, 18]);
  assert.deepEqual(window(28_000, 280, 28, 10_000), [992, 1018]);
  assert.deepEqual(window(0, 280, 28, 3), [0, 2]);
});

test('a chart has round ticks, keeps gaps, and reads values at a step', () => {
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(5, 5), [5]);
  const lines = [
    { name: 'a', steps: [0, 10, 20], values: [1, null, 3] },
    { name: 'b', steps: [5], values: [2] }
  ];
  assert.deepEqual(extent(lines), { steps: [0, 20], values: [1, 3] });
  assert.equal(extent([{ name: 'a', steps: [0], values: [null] }]), null);
  assert.deepEqual(allSteps(lines), [0, 5, 10, 20]);
  assert.equal(valueAt(lines[0], 12), 1);
  assert.equal(nearest([0, 5, 10, 20], 8), 10);
});
