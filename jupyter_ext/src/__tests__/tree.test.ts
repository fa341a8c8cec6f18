import { strict as assert } from 'node:assert';
import { describe, it } from 'node:test';

import type { ModelList, VersionRow } from '../api/types';
import { itemsOf, keyOf, stepFrom } from '../model/tree';

function version(name: string): VersionRow {
  return {
    version: name,
    created: '2026-01-01T00:00:00Z',
    user: 'ada',
    run_id: null,
    aliases: [],
    signature: true,
    serving: [],
    promoted_by: null
  };
}

const DATA: ModelList = {
  rows: [
    { name: 'späte/Flüge', versions: [version('2'), version('1')] },
    { name: 'wind', versions: [version('1')] }
  ]
};
const NOTHING: ReadonlySet<string> = new Set();

function from(current: string, key: string, told = NOTHING, shut = NOTHING): string | null {
  const step = stepFrom(itemsOf(DATA, shut), current, key, told);
  return step && `${step.toggle ? 'toggle ' : ''}${step.to}`;
}

describe('the tree of models', () => {
  it('shows the versions of open models only', () => {
    const shut = new Set([keyOf('späte/Flüge')]);
    assert.deepEqual(
      itemsOf(DATA, shut).map(item => item.label),
      ['späte/Flüge', 'wind', '1']
    );
  });

  it('is walked by arrows, and never left', () => {
    assert.equal(from(keyOf('späte/Flüge'), 'ArrowDown'), keyOf('späte/Flüge', '2'));
    assert.equal(from(keyOf('späte/Flüge'), 'ArrowUp'), keyOf('späte/Flüge'));
    assert.equal(from(keyOf('wind'), 'ArrowUp'), keyOf('späte/Flüge', '1'));
    assert.equal(from(keyOf('späte/Flüge'), 'End'), keyOf('wind', '1'));
    assert.equal(from(keyOf('wind', '1'), 'Home'), keyOf('späte/Flüge'));
  });

  it('goes out to the left and in to the right', () => {
    const model = keyOf('späte/Flüge');
    assert.equal(from(model, 'ArrowLeft'), `toggle ${model}`);
    assert.equal(from(model, 'ArrowRight', NOTHING, new Set([model])), `toggle ${model}`);
    assert.equal(from(model, 'ArrowRight'), keyOf('späte/Flüge', '2'));
    assert.equal(from(keyOf('späte/Flüge', '2'), 'ArrowLeft'), model);
  });

  it('tells a version by Enter, and puts the details away to the left', () => {
    const key = keyOf('wind', '1');
    assert.equal(from(key, 'Enter'), `toggle ${key}`);
    assert.equal(from(key, 'ArrowLeft', new Set([key])), `toggle ${key}`);
    assert.equal(from(key, 'x'), null);
  });
});
