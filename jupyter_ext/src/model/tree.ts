/** The tree of models under the keyboard: which items are there, and where a key goes. */

import type { ModelList } from '../api/types';

/** Names an item: a model, or a model's version. */
export type ItemKey = string;
/** Keys of items in a state that is not the usual one. */
export type TreeState = ReadonlySet<ItemKey>;

/** An item that can be seen. */
export interface Item {
  readonly key: ItemKey;
  /** The model that a version belongs to; null: it is a model. */
  readonly parent: ItemKey | null;
  /** Whether a model shows its versions. */
  readonly open: boolean;
  readonly label: string;
}

/** Where a key goes, and whether it opens or closes the item on its way. */
export interface Step {
  readonly to: ItemKey;
  readonly toggle: boolean;
}

/** An item's key; a model's name may hold anything, so it is written as JSON. */
export function keyOf(model: string, version?: string): ItemKey {
  return JSON.stringify(version === undefined ? [model] : [model, version]);
}

/** The items that can be seen, in reading order; `shut` holds the models that show no versions. */
export function itemsOf(data: ModelList, shut: TreeState): Item[] {
  return data.rows.flatMap(row => {
    const key = keyOf(row.name);
    const open = !shut.has(key);
    const versions = row.versions.map(version => ({
      key: keyOf(row.name, version.version),
      parent: key,
      open: false,
      label: version.version
    }));
    return [{ key, parent: null, open, label: row.name }, ...(open ? versions : [])];
  });
}

/**
 * Where a key goes, as the pattern for trees has it; null: the key means nothing here.
 *
 * @param told versions that show their details.
 */
export function stepFrom(
  items: readonly Item[],
  current: ItemKey,
  key: string,
  told: TreeState
): Step | null {
  const place = items.findIndex(item => item.key === current);
  const item = items[place];
  if (!item) {
    return null;
  }
  const open = item.parent === null ? item.open : told.has(item.key);
  const at = (index: number): Step => {
    const last = items.length - 1;
    return { to: items[Math.min(Math.max(index, 0), last)].key, toggle: false };
  };
  const turn = { to: current, toggle: true };
  switch (key) {
    case 'ArrowDown':
      return at(place + 1);
    case 'ArrowUp':
      return at(place - 1);
    case 'Home':
      return at(0);
    case 'End':
      return at(items.length - 1);
    case 'ArrowRight':
      return !open ? turn : item.parent === null ? at(place + 1) : null;
    case 'ArrowLeft':
      return open ? turn : item.parent !== null ? { to: item.parent, toggle: false } : null;
    case 'Enter':
    case ' ':
      return turn;
    default:
      return null;
  }
}
