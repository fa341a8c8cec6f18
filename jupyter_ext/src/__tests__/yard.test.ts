import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';

import { YardModel } from '../model/yard';
import { FakeServer, FakeStream, pageOf, run, settled, store, summary } from './fakes';

const made: YardModel[] = [];

// A poll that goes on would keep the process alive, whatever failed before.
afterEach(() => made.splice(0).forEach(model => (model.visible = false)));

function yard(server: FakeServer): { model: YardModel; streams: FakeStream[] } {
  const streams: FakeStream[] = [];
  const model = new YardModel(server.client, {
    near: () => 'work/flights/train.ipynb',
    store: store(),
    stream: address => {
      streams.push(new FakeStream(address));
      return streams[streams.length - 1];
    }
  });
  made.push(model);
  return { model, streams };
}

/** Let time go by, with everything that it brings about. */
async function pass(milliseconds: number): Promise<void> {
  mock.timers.tick(milliseconds);
  await settled();
  mock.timers.tick(0);
  await settled();
}

test('a hidden panel asks nothing, a visible one at once and then every five seconds', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const server = new FakeServer();
    const { model } = yard(server);
    await pass(20_000);
    assert.deepEqual(server.heard(), []);
    model.visible = true;
    await pass(1);
    assert.deepEqual(server.heard(), ['summary work/flights/train.ipynb', 'a/overview']);
    await pass(5_100);
    assert.deepEqual(server.heard(), ['summary work/flights/train.ipynb']);
    model.visible = false;
    await pass(60_000);
    assert.deepEqual(server.heard(), []);
  } finally {
    mock.timers.reset();
  }
});

test('who does not answer is asked less and less, and what is shown is called old', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const server = new FakeServer();
    const { model } = yard(server);
    model.visible = true;
    await pass(1);
    assert.equal(model.overview.state.phase, 'ready');
    server.down = true;
    server.heard();
    for (let second = 0; second < 120; second++) {
      await pass(1_000);
    }
    const tries = server.heard().length;
    assert.ok(tries >= 2 && tries < 12, `${tries} tries in two minutes`);
    assert.equal(model.problem?.code, 'unreachable');
    assert.ok(model.overview.state.stale);
    server.down = false;
    void model.look();
    await pass(1);
    assert.equal(model.problem, null);
    assert.equal(model.overview.state.stale, false);
  } finally {
    mock.timers.reset();
  }
});

test('only sections that are looked at and changed are loaded', async () => {
  const server = new FakeServer();
  const { model } = yard(server);
  model.runs.active = true;
  await model.look();
  await settled();
  assert.deepEqual(server.heard().slice(1).sort(), ['a/overview', 'a/runs']);
  server.etag = 'e2';
  server.summary = summary({ stamps: { ...server.summary.stamps, runs: '2', models: '2' } });
  await model.look();
  await settled();
  assert.deepEqual(server.heard().slice(1), ['a/runs']);
});

test('another project forgets everything about the first', async () => {
  const server = new FakeServer();
  const { model } = yard(server);
  await model.look();
  await settled();
  server.etag = 'e2';
  server.summary = summary({
    projects: [...server.summary.projects, { id: 'b', name: 'taxis', folder: 'taxis' }],
    project: 'b'
  });
  server.heard();
  await model.look();
  await settled();
  assert.equal(model.project?.name, 'taxis');
  assert.deepEqual(server.heard().slice(1), ['b/overview']);
});

test('two versions are noticed', async () => {
  const server = new FakeServer();
  server.summary = summary({ version: '0.2.0' });
  const { model } = yard(server);
  await model.look();
  assert.deepEqual(model.mismatch, { panel: '0.1.0', server: '0.2.0' });
});

test('a stream is open only while the list shows running runs', async () => {
  const server = new FakeServer();
  let status: 'running' | 'finished' = 'finished';
  server.answers.runs = () => ({ ...pageOf(1, { offset: '0', limit: '100' }), rows: [run('0', { status })] });
  const { model, streams } = yard(server);
  model.visible = true;
  model.runs.active = true;
  await model.look();
  await settled();
  assert.equal(streams.length, 0);
  status = 'running';
  await model.runs.refresh();
  assert.deepEqual(
    streams.map(one => one.address),
    ['/a/events']
  );
  streams[0].tell('runs', { rows: [run('0', { status: 'running', metrics: { auc: 0.8 } })] });
  assert.equal(model.runs.row(0)?.metrics.auc, 0.8);
  streams[0].tell('runs', { rows: [run('0')] });
  assert.equal(streams[0].readyState, 2);
});

test('without a project every question is refused with what to do', async () => {
  const server = new FakeServer();
  server.summary = summary({ projects: [], project: null, stamps: {} });
  const { model } = yard(server);
  await model.look();
  await assert.rejects(model.get(['runs']), /no project/);
});

test('who asks before the first look waits for it', async () => {
  const server = new FakeServer();
  const { model } = yard(server);
  await model.get(['models']);
  assert.deepEqual(
    server.heard().filter(asked => !asked.endsWith('overview')),
    ['summary work/flights/train.ipynb', 'a/models']
  );
});
