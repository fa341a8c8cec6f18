import { strict as assert } from 'node:assert';
import { describe, it } from 'node:test';

import { Refusal } from '../api/refusal';
import type { Move, PromotionPlan, RollbackPlan, Side } from '../api/types';
import { Asking, Promoting, RollingBack } from '../model/dialogs';
import { compareSides, faultsOf, gateLine, goodLines, whereTo } from '../model/promotion';
import { english } from './english';

function side(version: string, given: Partial<Side> = {}): Side {
  return {
    version,
    metrics: { auc: 0.7 },
    params: { depth: '6' },
    data: ['train winter@aaaa'],
    signature: true,
    drifted: null,
    created: '2026-01-01T00:00:00Z',
    user: 'ada',
    ...given
  };
}

function plan(given: Partial<PromotionPlan> = {}): PromotionPlan {
  return {
    model: 'late-flights',
    alias: 'production',
    candidate: side('2'),
    champion: side('1'),
    gates: [],
    allowed: true,
    must_type: null,
    ...given
  };
}

const MOVE: Move = {
  id: 'late-flights#7',
  model: 'late-flights',
  alias: 'production',
  action: 'promote',
  from_version: '1',
  to_version: '2',
  time: '2026-01-01T00:00:00Z',
  user: 'ada',
  reason: 'better',
  status: 'completed',
  deployed: true,
  origin: null
};

/** A server that answers with what it is given, one after the other, and writes down what it was asked. */
function server(answers: { gets?: unknown[]; posts?: unknown[] }): Asking & {
  asked: { path: string[]; body?: unknown; key?: string; query?: Record<string, string> }[];
} {
  const [gets, posts] = [[...(answers.gets ?? [])], [...(answers.posts ?? [])]];
  const answer = <T>(left: unknown[]): Promise<T> => {
    const next = left.length > 1 ? left.shift() : left[0];
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next as T);
  };
  const asked: { path: string[]; body?: unknown; key?: string; query?: Record<string, string> }[] = [];
  return {
    asked,
    get: (path, query) => {
      asked.push({ path, query });
      return answer(gets);
    },
    post: (path, body, key) => {
      asked.push({ path, body, key });
      return answer(posts);
    }
  };
}

function refusal(status: number, code: string, details: Record<string, unknown> = {}): Refusal {
  const message = "'production' of late-flights is at version 3, not 1: it was moved by bob";
  return new Refusal(status, { code, message, hint: '', plugin: null, details });
}

function keys(): () => string {
  let made = 0;
  return () => `key-${++made}`;
}

function promoting(asking: Asking): Promoting {
  return new Promoting(asking, 'late-flights', '2', 'production', english, keys());
}

describe('the sides of a promotion', () => {
  it('say by how much a metric changed', () => {
    const candidate = side('2', { metrics: { auc: 0.75, loss: 0.3 } });
    const champion = side('1', { metrics: { auc: 0.7, loss: 0.4 } });
    const lines = compareSides(plan({ candidate, champion }), english);
    const changes = lines.filter(line => line.group === 'metric').map(line => line.change);
    assert.deepEqual(changes, ['+0.05', '−0.1']);
  });

  it('differ where one of them lacks something', () => {
    const candidate = side('2', { metrics: { auc: 0.7, brier: 0.2 }, params: {} });
    const lines = compareSides(plan({ candidate }), english);
    const differing = lines.filter(line => line.differs).map(line => line.name);
    assert.deepEqual(differing, ['brier', 'depth']);
    assert.equal(lines.find(line => line.name === 'brier')?.champion, '–');
  });

  it('compare data by the role that it played', () => {
    const candidate = side('2', { data: ['train winter@bbbb', 'test summer@cccc'] });
    const lines = compareSides(plan({ candidate }), english).filter(line => line.group === 'data');
    assert.deepEqual(
      lines.map(line => [line.name, line.champion, line.candidate]),
      [
        ['train', 'winter@aaaa', 'winter@bbbb'],
        ['test', '–', 'summer@cccc']
      ]
    );
  });

  it('differ in nothing where nobody holds the alias', () => {
    const lines = compareSides(plan({ champion: null }), english);
    assert.ok(lines.every(line => !line.differs));
  });

  it('tell drift that nobody watches from none', () => {
    const candidate = side('2', { drifted: [] });
    const line = compareSides(plan({ candidate }), english).find(one => one.group === 'drift');
    assert.deepEqual([line?.champion, line?.candidate], ['not watched', 'none']);
  });
});

describe('a gate', () => {
  it('is shown with its value and what it is held against', () => {
    const values = { metric: 'auc', value: 0.71234, min: 0.6, tolerance: 0.01, current: 0.7 };
    const line = gateLine({ gate: 'metric', passed: true, message: 'auc 0.7123', values }, english);
    assert.equal(line.name, 'metric auc');
    assert.equal(line.value, '0.7123');
    assert.equal(line.limit, 'at least 0.6, at most 0.01 worse, champion 0.7');
  });

  it('that measures nothing has neither', () => {
    const line = gateLine({ gate: 'signature', passed: false, message: 'missing', values: {} }, english);
    assert.deepEqual([line.value, line.limit], ['–', '–']);
  });
});

describe('a promotion', () => {
  it('needs a reason and the name where it has to be typed', () => {
    const asked = plan({ must_type: 'late-flights' });
    const faults = faultsOf(asked, { reason: ' ', name: 'late' }, english);
    assert.deepEqual(Object.keys(faults), ['reason', 'name']);
    assert.deepEqual(faultsOf(asked, { reason: 'better', name: 'late-flights' }, english), {});
  });

  it('goes nowhere against a gate or to where it is', () => {
    const gates = [{ gate: 'metric', passed: false, message: 'auc 0.5 is below 0.6', values: {} }];
    const refused = faultsOf(plan({ gates, allowed: false }), { reason: 'x', name: '' }, english);
    assert.equal(refused.plan, 'The gates refuse: metric.');
    const same = faultsOf(plan({ champion: side('2') }), { reason: 'x', name: '' }, english);
    assert.equal(same.plan, 'Version 2 already is production.');
  });

  it('asks nothing while something is missing', async () => {
    const asking = server({ gets: [plan()], posts: [MOVE] });
    const form = promoting(asking);
    await form.load();
    assert.equal(await form.submit(), null);
    assert.ok(form.faults.reason);
    assert.equal(asking.asked.length, 1);
    form.type({ reason: 'better' });
    assert.deepEqual(form.faults, {});
  });

  it('says whom it expects, and moves once for two clicks', async () => {
    const asking = server({ gets: [plan()], posts: [MOVE] });
    const form = promoting(asking);
    await form.load();
    form.type({ reason: ' better ' });
    const [first, second] = await Promise.all([form.submit(), form.submit()]);
    assert.deepEqual([first, second], [MOVE, null]);
    assert.equal(asking.asked.length, 2);
    assert.deepEqual(asking.asked[1].body, {
      version: '2',
      alias: 'production',
      reason: 'better',
      expect: '1'
    });
  });

  it('expects nobody where nobody holds the alias', async () => {
    const asking = server({ gets: [plan({ champion: null })], posts: [MOVE] });
    const form = promoting(asking);
    await form.load();
    form.type({ reason: 'first' });
    await form.submit();
    assert.equal((asking.asked[1].body as { expect: string }).expect, '');
  });

  it('that lost a race shows who was faster, keeps the reason and tries as another', async () => {
    const lost = refusal(409, 'alias-moved', { current: '3', expected: '1' });
    const asking = server({
      gets: [plan(), plan({ champion: side('3') })],
      posts: [lost, MOVE]
    });
    const form = promoting(asking);
    await form.load();
    form.type({ reason: 'better' });
    assert.equal(await form.submit(), null);
    assert.match(form.race, /moved by bob/);
    assert.equal(form.plan?.champion?.version, '3');
    assert.equal(form.typed.reason, 'better');
    assert.equal(await form.submit(), MOVE);
    const [before, after] = asking.asked.filter(one => one.body);
    assert.equal((after.body as { expect: string }).expect, '3');
    assert.notEqual(before.key, after.key);
  });

  it('without an answer is tried again under the same key', async () => {
    const asking = server({ gets: [plan()], posts: [new Error('cut off'), MOVE] });
    const form = promoting(asking);
    await form.load();
    form.type({ reason: 'better' });
    assert.equal(await form.submit(), null);
    assert.equal(form.refused?.code, 'unreachable');
    assert.equal(await form.submit(), MOVE);
    const [before, after] = asking.asked.filter(one => one.body);
    assert.equal(before.key, after.key);
  });

  it('asks the gates again for another alias', async () => {
    const asking = server({ gets: [plan(), plan({ alias: 'staging' })] });
    const form = promoting(asking);
    await form.load();
    form.type({ reason: 'try' });
    await form.towards('staging');
    assert.deepEqual(asking.asked[1].query, { version: '2', alias: 'staging' });
    assert.equal(form.typed.reason, 'try');
  });

  it('takes back that its plan is not loaded as soon as it is', async () => {
    const form = promoting(server({ gets: [plan()], posts: [MOVE] }));
    form.type({ reason: 'better' });
    const loaded = form.load();
    const tried = form.submit();
    assert.ok(form.faults.plan);
    await loaded;
    assert.equal(await tried, null);
    assert.deepEqual(form.faults, {});
  });
});

describe('a roll back', () => {
  const back: RollbackPlan = {
    model: 'late-flights',
    alias: 'production',
    current: '3',
    to: '1',
    good: [
      { version: '3', since: '2026-01-03T00:00:00Z', seconds: 60, reason: 'c' },
      { version: '2', since: '2026-01-02T00:00:00Z', seconds: 60, reason: 'b' },
      { version: '1', since: '2026-01-01T00:00:00Z', seconds: 60, reason: 'a' },
      { version: '1', since: '2025-12-01T00:00:00Z', seconds: 60, reason: '0' }
    ]
  };

  it('marks who is in service and the newest stay that it goes back to', () => {
    const marks = goodLines(back.good, back.current, back.to).map(line => line.mark);
    assert.deepEqual(marks, ['now', '', 'next', '']);
  });

  it('says where it goes', () => {
    assert.equal(whereTo('3', '1', english), 'version 3 → version 1');
    assert.match(whereTo('1', null, english), /nothing to go back to/);
  });

  it('with a reason given before goes through at once', async () => {
    const asking = server({ gets: [back], posts: [{ ...MOVE, action: 'rollback' }] });
    const form = new RollingBack(asking, 'late-flights', 'production', 'Undo', english, keys());
    await form.load();
    assert.equal((await form.submit())?.action, 'rollback');
    assert.deepEqual(asking.asked[1].body, { alias: 'production', reason: 'Undo', expect: '3' });
  });

  it('shows who was faster, and keeps the reason', async () => {
    const lost = refusal(409, 'alias-moved', { current: '2', expected: '3' });
    const asking = server({ gets: [back, { ...back, current: '2' }], posts: [lost] });
    const form = new RollingBack(asking, 'late-flights', 'production', 'Undo', english, keys());
    await form.load();
    assert.equal(await form.submit(), null);
    assert.match(form.race, /moved by bob/);
    assert.equal(form.plan?.current, '2');
    assert.equal(form.typed.reason, 'Undo');
  });

  it('with nowhere to go asks nothing', async () => {
    const asking = server({ gets: [{ ...back, to: null }], posts: [MOVE] });
    const form = new RollingBack(asking, 'late-flights', 'production', 'Undo', english, keys());
    await form.load();
    assert.equal(await form.submit(), null);
    assert.ok(form.faults.plan);
    assert.equal(asking.asked.length, 1);
  });
});
