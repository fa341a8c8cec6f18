import { Curve, RunPage, RunRow } from '../api/types';
import { Curves } from './curves';
import { Remembered, Store } from './memory';
import { Loaded } from './section';
import { Selection } from './selection';

/** Rows of one question. */
export const PAGE = 100;
/** Milliseconds until the list is asked again for runs that the server is still reading. */
const SOON = 1500;

/** Which runs are shown. `starred` are those that the user marked. */
export interface Wanted {
  search: string;
  status: '' | 'running' | 'finished' | 'failed' | 'killed' | 'starred';
  sort: string;
  descending: boolean;
}

/** What the list asks of the project. */
export interface RunSource {
  page(query: Record<string, string>): Promise<RunPage>;
  row(id: string): Promise<RunRow>;
  curves(id: string, name: string): Promise<Curve[]>;
}

/** The list of runs: pages come as they are looked at, running runs are kept up to date. */
export class RunsModel extends Loaded<RunPage> {
  constructor(
    private readonly _source: RunSource,
    private readonly _store: Store
  ) {
    super();
    this.curves = new Curves((id, name) => this._source.curves(id, name));
    this.curves.changed.connect(() => this.set({}));
    this.selection = new Selection();
    this.selection.changed.connect(() => this.set({}));
    this._forProject('');
  }

  readonly curves: Curves;
  readonly selection: Selection;
  wanted: Wanted = { search: '', status: '', sort: 'started', descending: true };

  /** How many runs fit. */
  get total(): number {
    return this.state.data?.total ?? 0;
  }

  /** The run at a place of the list; null while its page is on its way. */
  row(index: number): RunRow | null {
    return this._pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null;
  }

  /** Where a run is among those that were loaded; -1: not there. */
  indexOf(id: string): number {
    for (const [number, rows] of this._pages) {
      const found = rows.findIndex(row => row.id === id);
      if (found >= 0) {
        return number * PAGE + found;
      }
    }
    return -1;
  }

  /** A run that was loaded. */
  byId(id: string): RunRow | null {
    const index = this.indexOf(id);
    return index < 0 ? null : this.row(index);
  }

  /** Whether one of the loaded runs runs. */
  get anyRunning(): boolean {
    return [...this._pages.values()].some(rows => rows.some(row => row.status === 'running'));
  }

  /** What the newest of the loaded running runs is called. */
  get runningName(): string | null {
    for (const rows of this._pages.values()) {
      const found = rows.find(row => row.status === 'running');
      if (found) {
        return found.name;
      }
    }
    return null;
  }

  /** Ask for other runs, or in another order. */
  want(part: Partial<Wanted>): void {
    this.wanted = { ...this.wanted, ...part };
    this._seen = [0, 0];
    void this.refresh();
  }

  /** Say which rows are on the screen, so that they are loaded. */
  show(first: number, last: number): void {
    this._seen = [first, Math.max(first, last)];
    if (this.state.phase === 'ready' && this._needed().some(number => !this._pages.has(number))) {
      void this._fill();
    }
  }

  /** The columns beside the name, e.g. `started`, `metric:auc`, `param:depth`, `curve`. */
  get columns(): string[] {
    const chosen = this._columns.value;
    if (chosen) {
      return chosen;
    }
    const first = this.state.data?.metric_names[0];
    return first ? [`metric:${first}`, 'started', 'curve'] : ['started'];
  }

  set columns(columns: string[]) {
    this._columns.value = columns;
    this.set({});
  }

  /** The metric that stands for a run where there is room for one. */
  get mainMetric(): string | null {
    const shown = this.columns.find(column => column.startsWith('metric:'));
    return shown?.slice('metric:'.length) ?? this.state.data?.metric_names[0] ?? null;
  }

  isStarred(id: string): boolean {
    return this._stars.value.includes(id);
  }

  star(id: string): void {
    const stars = this._stars.value;
    this._stars.value = stars.includes(id) ? stars.filter(one => one !== id) : [...stars, id];
    if (this.wanted.status === 'starred') {
      void this.refresh();
    } else {
      this.set({});
    }
  }

  /** Take over rows that the server told of its own accord. New ones need their place: ask for it. */
  merge(rows: readonly RunRow[]): void {
    let strangers = false;
    for (const row of rows) {
      const index = this.indexOf(row.id);
      if (index < 0) {
        strangers = true;
        continue;
      }
      const page = this._pages.get(Math.floor(index / PAGE))!;
      page[index % PAGE] = row;
      this.curves.forget(row.id, row.status !== 'running');
    }
    this.set({ updated: Date.now() });
    if (strangers) {
      void this.refresh();
    }
  }

  /** This is another project: its stars and columns are others. */
  enter(project: string): void {
    this._pages.clear();
    this._seen = [0, 0];
    this.curves.clear();
    this.selection.clear();
    this.wanted = { search: '', status: '', sort: 'started', descending: true };
    this._forProject(project);
    this.reset();
  }

  protected async load(): Promise<RunPage> {
    if (this.wanted.status === 'starred') {
      return this._loadStarred();
    }
    const asked = this.wanted;
    const found = await Promise.all(this._needed().map(number => this._page(number)));
    if (asked !== this.wanted) {
      return this.load();
    }
    this._pages = new Map(found.map(page => [page.offset / PAGE, [...page.rows]]));
    this._dropFinishedCurves();
    if (found[0].more) {
      setTimeout(() => this.active && void this.refresh(), SOON);
    }
    return found[0];
  }

  private async _fill(): Promise<void> {
    const missing = this._needed().filter(number => !this._pages.has(number) && !this._coming.has(number));
    const asked = this.wanted;
    missing.forEach(number => this._coming.add(number));
    try {
      const found = await Promise.all(missing.map(number => this._page(number)));
      if (asked === this.wanted) {
        found.forEach(page => this._pages.set(page.offset / PAGE, [...page.rows]));
        this.set({});
      }
    } catch {
      void this.refresh(); // which says what is wrong
    } finally {
      missing.forEach(number => this._coming.delete(number));
    }
  }

  private _page(number: number): Promise<RunPage> {
    const { search, status, sort, descending } = this.wanted;
    return this._source.page({
      offset: String(number * PAGE),
      limit: String(PAGE),
      search,
      status,
      sort,
      descending: String(descending)
    });
  }

  /** Marked runs are few, so that they are asked for one by one; one that is gone has no row. */
  private async _loadStarred(): Promise<RunPage> {
    const answers = await Promise.allSettled(this._stars.value.map(id => this._source.row(id)));
    const words = this.wanted.search.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = answers
      .flatMap(answer => (answer.status === 'fulfilled' ? [answer.value] : []))
      .filter(row => words.every(word => `${row.name} ${row.id} ${row.user}`.toLowerCase().includes(word)))
      .sort((a, b) => b.started.localeCompare(a.started));
    this._pages = new Map();
    for (let start = 0; start < rows.length; start += PAGE) {
      this._pages.set(start / PAGE, rows.slice(start, start + PAGE));
    }
    const names = this.state.data ?? { metric_names: [], param_names: [] };
    return { ...names, total: rows.length, more: false, offset: 0, rows };
  }

  /** The pages on the screen; the first one tells the total and is always there. */
  private _needed(): number[] {
    const [first, last] = this._seen.map(index => Math.floor(index / PAGE));
    const numbers = [0];
    for (let number = Math.max(1, first); number <= last; number++) {
      numbers.push(number);
    }
    return numbers;
  }

  private _dropFinishedCurves(): void {
    for (const rows of this._pages.values()) {
      rows.filter(row => row.status === 'running').forEach(row => this.curves.forget(row.id));
    }
  }

  private _forProject(project: string): void {
    this._stars = new Remembered<string[]>(this._store, `modelyard:stars:${project}`, []);
    this._columns = new Remembered<string[] | null>(this._store, `modelyard:columns:${project}`, null);
  }

  private _pages = new Map<number, RunRow[]>();
  private _coming = new Set<number>();
  private _seen: [number, number] = [0, 0];
  private _stars!: Remembered<string[]>;
  private _columns!: Remembered<string[] | null>;
}
