import { Client } from '../api/client';
import { Refusal } from '../api/refusal';
import { Problem, RunPage, RunRow, Summary } from '../api/types';
import { Store } from '../model/memory';
import { Stream } from '../model/live';

/** What a browser would keep. */
export function store(): Store {
  const kept = new Map<string, string>();
  return { getItem: key => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value) };
}

export function problem(code: string): Problem {
  return { code, message: `it is ${code}`, hint: '', plugin: null, details: {} };
}

export function run(id: string, more: Partial<RunRow> = {}): RunRow {
  return {
    id,
    name: `run ${id}`,
    status: 'finished',
    started: '2026-01-01T00:00:00Z',
    ended: null,
    user: 'ada',
    params: {},
    metrics: { auc: 0.5 },
    data: [],
    models: [],
    notebook: null,
    cell: null,
    ...more
  };
}

export function summary(more: Partial<Summary> = {}): Summary {
  return {
    version: '0.1.0',
    projects: [{ id: 'a', name: 'flights', folder: 'work/flights' }],
    project: 'a',
    target: 'local',
    stamps: { overview: '1', runs: '1', data: '1', models: '1', serving: '1', drift: '1' },
    ...more
  };
}

/** Pages of some number of runs, as the server makes them. */
export function pageOf(count: number, query: Record<string, string>): RunPage {
  const [offset, limit] = [Number(query.offset), Number(query.limit)];
  const rows: RunRow[] = [];
  for (let index = offset; index < Math.min(count, offset + limit); index++) {
    rows.push(run(String(index)));
  }
  return { total: count, more: false, offset, rows, metric_names: ['auc'], param_names: ['depth'] };
}

/** A server that answers what it was told to. */
export class FakeServer {
  summary = summary();
  etag = 'e1';
  down = false;
  asked: string[] = [];
  answers: Record<string, () => unknown> = {};

  get client(): Client {
    return {
      summary: async (query: { near?: string; project?: string }, etag: string | null) => {
        this.asked.push(`summary ${query.near ?? ''} ${query.project ?? ''}`.trim());
        if (this.down) {
          throw new Refusal(0, problem('unreachable'));
        }
        return etag === this.etag ? { summary: null, etag } : { summary: this.summary, etag: this.etag };
      },
      get: async (project: string, path: string[], query: Record<string, string>) => {
        const name = path.join('/');
        this.asked.push(`${project}/${name}`);
        const answer = this.answers[name];
        if (answer) {
          return answer();
        }
        return name === 'runs' ? pageOf(250, query) : { rows: [] };
      },
      post: async () => ({}),
      address: (project: string, path: string[]) => `/${project}/${path.join('/')}`
    } as unknown as Client;
  }

  /** What was asked since the last time. */
  heard(): string[] {
    return this.asked.splice(0);
  }
}

/** A stream of events whose other end the test holds. */
export class FakeStream implements Stream {
  constructor(readonly address: string) {}

  readyState = 1;
  private _listeners: Record<string, (event: { data: string }) => void> = {};

  addEventListener(kind: string, listener: (event: { data: string }) => void): void {
    this._listeners[kind] = listener;
  }

  close(): void {
    this.readyState = 2;
  }

  tell(kind: string, data: unknown): void {
    this._listeners[kind]({ data: JSON.stringify(data) });
  }
}

/** Let everything happen that is only waiting for its turn. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    await new Promise(resolve => setImmediate(resolve));
  }
}
