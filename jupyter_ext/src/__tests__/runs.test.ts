import assert from 'node:assert/strict';
import { test } from 'node:test';

import { RunsModel } from '../model/runs';
import { pageOf, run, settled, store } from './fakes';

function model(count = 10_000, kept = store()): { runs: RunsModel; asked: Record<string, string>[] } {
  const asked: Record<string, string>[] = [];
  const runs = new RunsModel(
    {
      page: async query => {
        asked.push(query);
        return pageOf(count, query);
      },
      row: async id => run(id),
      curves: async (id, name) => [{ run: id, name, steps: [0, 1], values: [0, 1] }]
    },
    kept
  );
  return { runs, asked };
}

test('of 10,000 runs only the pages on the screen are asked for', async () => {
  const { runs, asked } = model();
  await runs.refresh();
  assert.equal(runs.total, 10_000);
  assert.equal(runs.row(5)?.id, '5');
  assert.equal(runs.row(9_950), null);
  runs.show(9_940, 9_970);
  await settled();
  assert.equal(runs.row(9_950)?.id, '9950');
  assert.deepEqual(
    asked.map(query => query.offset),
    ['0', '9900']
  );
});

test('a refresh keeps what is on the screen and drops the rest', async () => {
  const { runs } = model();
  await runs.refresh();
  runs.show(500, 520);
  await settled();
  runs.show(9_000, 9_020);
  await settled();
  await runs.refresh();
  assert.equal(runs.row(9_010)?.id, '9010');
  assert.equal(runs.row(510), null);
});

test('the last search wins over one whose answer comes late', async () => {
  const waiting: ((count: number) => void)[] = [];
  const runs = new RunsModel(
    {
      page: query => new Promise(resolve => waiting.push(count => resolve(pageOf(count, query)))),
      row: async id => run(id),
      curves: async () => []
    },
    store()
  );
  runs.want({ search: 'a' });
  runs.want({ search: 'ab' });
  waiting.shift()!(5);
  await settled();
  waiting.splice(0).forEach(answer => answer(3));
  await settled();
  waiting.splice(0).forEach(answer => answer(3));
  await settled();
  assert.equal(runs.total, 3);
  assert.equal(runs.wanted.search, 'ab');
});

test('live rows replace theirs; an unknown one makes the list ask again', async () => {
  const { runs, asked } = model(10);
  await runs.refresh();
  runs.merge([run('3', { status: 'running', metrics: { auc: 0.9 } })]);
  assert.equal(runs.row(3)?.metrics.auc, 0.9);
  assert.ok(runs.anyRunning);
  assert.equal(asked.length, 1);
  runs.merge([run('new', { status: 'running' })]);
  await settled();
  assert.equal(asked.length, 2);
});

test('stars and columns are kept for each project', async () => {
  const kept = store();
  const { runs } = model(10, kept);
  runs.enter('a');
  await runs.refresh();
  assert.deepEqual(runs.columns, ['metric:auc', 'started', 'curve']);
  runs.columns = ['param:depth'];
  runs.star('7');
  runs.enter('b');
  assert.equal(runs.isStarred('7'), false);
  const again = model(10, kept).runs;
  again.enter('a');
  assert.ok(again.isStarred('7'));
  assert.deepEqual(again.columns, ['param:depth']);
});

test('starred runs are a list of their own', async () => {
  const { runs } = model();
  runs.enter('a');
  runs.star('7');
  runs.star('9000');
  runs.want({ status: 'starred' });
  await settled();
  assert.deepEqual([runs.total, runs.row(0)?.id, runs.row(1)?.id], [2, '7', '9000']);
});

test('shift selects from the last one that was selected', async () => {
  const { runs } = model(10);
  await runs.refresh();
  const between = (from: string, to: string) => {
    const ids: string[] = [];
    for (let index = runs.indexOf(from); index <= runs.indexOf(to); index++) {
      ids.push(runs.row(index)!.id);
    }
    return ids;
  };
  runs.selection.toggle('2');
  runs.selection.extend('4', between);
  assert.deepEqual(runs.selection.ids, ['2', '3', '4']);
  runs.selection.extend('5', between);
  assert.deepEqual(runs.selection.ids, ['2', '3', '4', '5']);
});

test('curves come a few at a time and once each', async () => {
  let [running, most, asked] = [0, 0, 0];
  const runs = new RunsModel(
    {
      page: async query => pageOf(50, query),
      row: async id => run(id),
      curves: async (id, name) => {
        asked += 1;
        most = Math.max(most, ++running);
        await settled();
        running -= 1;
        return [{ run: id, name, steps: [0, 1], values: [0, 1] }];
      }
    },
    store()
  );
  const ids = Array.from({ length: 10 }, (_, index) => String(index));
  runs.curves.want(ids, 'auc');
  for (let round = 0; round < 8; round++) {
    await settled();
  }
  runs.curves.want(ids, 'auc');
  await settled();
  assert.deepEqual([most, asked], [2, 10]);
  assert.deepEqual(runs.curves.of('9', 'auc'), [0, 1]);
});

test('the curve of a run that goes on is asked for again after a while, and at once when it has ended', async context => {
  context.mock.timers.enable({ apis: ['Date'] });
  let asked = 0;
  const runs = new RunsModel(
    {
      page: async query => pageOf(1, query),
      row: async id => run(id),
      curves: async (id, name) => [{ run: id, name, steps: [0, 1], values: [0, ++asked] }]
    },
    store()
  );
  const look = async (status: 'running' | 'finished') => {
    runs.merge([run('0', { status })]);
    runs.curves.want(['0'], 'auc');
    await settled();
    return asked;
  };
  await runs.refresh();
  assert.equal(await look('running'), 1);
  assert.equal(await look('running'), 1);
  context.mock.timers.tick(6000);
  assert.equal(await look('running'), 2);
  assert.equal(await look('finished'), 3);
});
