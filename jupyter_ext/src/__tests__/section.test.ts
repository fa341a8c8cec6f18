import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Refusal } from '../api/refusal';
import { Section } from '../model/section';
import { problem, settled } from './fakes';

test('a section loads when somebody looks and its stamp is new, and only then', async () => {
  let asked = 0;
  const section = new Section(async () => ++asked);
  section.offer('1');
  await settled();
  assert.equal(asked, 0);
  section.active = true;
  await settled();
  assert.deepEqual([asked, section.state.phase, section.state.data], [1, 'ready', 1]);
  section.offer('1');
  await settled();
  assert.equal(asked, 1);
  section.offer('2');
  await settled();
  assert.equal(asked, 2);
});

test('a failure keeps the last data and says that they are old', async () => {
  let fails = false;
  const section = new Section(async () => {
    if (fails) {
      throw new Refusal(502, problem('tracker-down'));
    }
    return 'data';
  });
  await section.refresh();
  fails = true;
  await section.refresh();
  const { phase, data, status, stale } = section.state;
  assert.deepEqual([phase, data, status, stale], ['failed', 'data', 502, true]);
  assert.equal(section.state.problem?.code, 'tracker-down');
  fails = false;
  await section.refresh();
  assert.deepEqual([section.state.phase, section.state.stale, section.state.problem], ['ready', false, null]);
});

test('what is asked for while loading is loaded once more, not twice at once', async () => {
  let [running, most, asked] = [0, 0, 0];
  const section = new Section(async () => {
    most = Math.max(most, ++running);
    await settled();
    running -= 1;
    return ++asked;
  });
  await Promise.all([section.refresh(), section.refresh(), section.refresh()]);
  assert.deepEqual([most, asked, section.state.data], [1, 2, 2]);
});

test('an answer about another project is thrown away', async () => {
  const answers = ['old', 'new'];
  const section = new Section(async () => {
    const answer = answers.shift();
    await settled();
    return answer;
  });
  const first = section.refresh();
  section.reset();
  await first;
  assert.equal(section.state.data, 'new');
});
