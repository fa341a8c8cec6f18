import { strict as assert } from 'node:assert';
import { describe, it } from 'node:test';

import type { ConditionRow, EndpointRow, Job, RevisionRow } from '../api/types';
import { editorText, requestIn, shareIn, speedWords, standing, stateOf, trafficWords } from '../model/serving';
import { follow, jobWords, progressOf } from '../model/transfer';
import { english } from './english';

function revision(version: string, given: Partial<RevisionRow> = {}): RevisionRow {
  return {
    name: `late-flights-0000${version}`,
    model: 'late-flights',
    version,
    traffic: 100,
    ready: true,
    failed: false,
    message: '',
    requests: null,
    errors: null,
    p95_ms: null,
    ...given
  };
}

function endpoint(given: Partial<EndpointRow> = {}): EndpointRow {
  return {
    name: 'late-flights',
    ready: true,
    reason: '',
    target: 'local',
    storage_uri: 'models:/late-flights/1',
    revisions: [revision('1')],
    canary: null,
    ...given
  };
}

describe('an endpoint', () => {
  it('says in words who gets how much', () => {
    const revisions = [revision('2', { traffic: 20 }), revision('1', { traffic: 80 })];
    assert.equal(trafficWords(endpoint({ revisions }), english), 'version 1 gets 80 %, version 2 gets 20 %');
    assert.equal(trafficWords(endpoint({ revisions: [] }), english), 'No revision gets traffic.');
  });

  it('is degraded where a revision with traffic is not ready', () => {
    const revisions = [revision('2', { traffic: 20, ready: false }), revision('1', { traffic: 80 })];
    assert.equal(stateOf(endpoint({ revisions }), english).word, 'degraded');
    assert.equal(stateOf(endpoint(), english).word, 'ready');
    const failed = endpoint({ ready: false, revisions: [revision('1', { failed: true })] });
    assert.equal(stateOf(failed, english).light, 'failed');
  });

  it('knows that a condition may still become true, and that Stopped better does not', () => {
    const of = (type: string, status: ConditionRow['status']) =>
      standing({ type, status, reason: '', message: '', since: null });
    assert.deepEqual(
      [of('Ready', 'True'), of('Ready', 'Unknown'), of('Ready', 'False'), of('Stopped', 'False')],
      ['ok', 'unknown', 'failed', 'ok']
    );
  });

  it('says latency and errors only where they are known', () => {
    assert.equal(speedWords(endpoint(), english), '');
    const asked = { requests: 1000, errors: 1, p95_ms: 12.345 };
    const alone = endpoint({ revisions: [revision('1', asked)] });
    assert.equal(speedWords(alone, english), '95 % within 12.35 ms, 0.1 % errors of 1000');
    const revisions = [revision('2', { ...asked, traffic: 20 }), revision('1', { ...asked, traffic: 80 })];
    assert.match(speedWords(endpoint({ revisions }), english), /^version 1: 95 % .*; version 2: 95 % /);
  });

  it('takes whole shares from 0 to 100', () => {
    assert.deepEqual(['0', ' 100 ', '101', '5.5', '-1', ''].map(shareIn), [0, 100, null, null, null, null]);
  });
});

describe('the editor', () => {
  it('takes a list, or an object with one', () => {
    assert.deepEqual(requestIn('[{"a": 1}]', english), { instances: [{ a: 1 }] });
    assert.deepEqual(requestIn('{"instances": [[1, 2]]}', english), { instances: [[1, 2]] });
    assert.deepEqual(requestIn(editorText([{ a: 1 }]), english), { instances: [{ a: 1 }] });
  });

  it('says what is wrong with its text', () => {
    assert.match((requestIn('[1,', english) as { fault: string }).fault, /^This is no JSON: /);
    assert.match((requestIn('{"rows": []}', english) as { fault: string }).fault, /"instances"/);
    assert.match((requestIn('[]', english) as { fault: string }).fault, /1 to 1000/);
    assert.match((requestIn('null', english) as { fault: string }).fault, /list of rows/);
  });
});

describe('a push', () => {
  const job: Job = {
    id: 'j',
    what: 'push',
    state: 'running',
    doing: 'winter',
    done: 1,
    total: 4,
    problem: null
  };

  it('is followed until it ends, ever more rarely', async () => {
    const answers: Job[] = [job, job, { ...job, state: 'finished', done: 4, doing: '' }];
    const [told, waits]: [string[], number[]] = [[], []];
    const last = await follow(
      job,
      async () => answers.shift()!,
      one => told.push(jobWords(one, english)),
      async milliseconds => void waits.push(milliseconds)
    );
    assert.equal(last.state, 'finished');
    assert.deepEqual(told.slice(-2), ['Push: winter, 1 of 4', 'Push: done']);
    assert.deepEqual(waits, [300, 450, 675]);
  });

  it('shows how much is done where that is known', () => {
    assert.equal(progressOf(job), 0.25);
    assert.equal(progressOf({ ...job, total: null }), null);
    assert.equal(progressOf({ ...job, state: 'finished' }), 1);
  });
});
