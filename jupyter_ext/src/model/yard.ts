import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import type { Client } from '../api/client';
import { Refusal, refusalOf } from '../api/refusal';
import {
  Curve,
  DataList,
  DriftList,
  EndpointList,
  ModelList,
  Overview,
  Problem,
  Project,
  RunDetails,
  RunPage,
  Summary
} from '../api/types';
import { VERSION } from '../version';
import { Live, Stream } from './live';
import { Store } from './memory';
import { RunsModel } from './runs';
import { Loaded, Section } from './section';

export type SectionName = 'overview' | 'runs' | 'data' | 'models' | 'serving' | 'drift';

/** What the world gives the model; tests give it another one. */
export interface World {
  /** The contents path of the document that the user is at, or nothing. */
  near(): string;
  store: Store;
  stream(address: string): Stream;
}

/** Seconds between two looks, and the most when nobody answers. */
const [SECONDS, MOST_SECONDS] = [5, 60];

/** The project that is looked at, and everything that is known about it. */
export class YardModel {
  constructor(
    readonly client: Client,
    private readonly _world: World
  ) {
    this.overview = new Section(() => this.get<Overview>(['overview']));
    this.overview.active = true; // the status bar shows it wherever the user is
    this.data = new Section(() => this.get<DataList>(['data']));
    this.models = new Section(() => this.get<ModelList>(['models']));
    this.serving = new Section(() => this.get<EndpointList>(['endpoints']));
    this.drift = new Section(() => this.get<DriftList>(['drift']));
    this.runs = new RunsModel(
      {
        page: query => this.get<RunPage>(['runs'], query),
        row: async id => (await this.get<RunDetails>(['runs', id])).row,
        curves: async (id, names) =>
          (await this.get<{ curves: Curve[] }>(['runs', id, 'curves'], { names })).curves
      },
      _world.store
    );
    this.runs.changed.connect(() => this._listen());
    this._live = new Live(
      address => this._world.stream(address),
      rows => this.runs.merge(rows)
    );
    this._poll = new Poll({
      auto: false,
      factory: () => this._ask(),
      frequency: { interval: SECONDS * 1000, backoff: true, max: MOST_SECONDS * 1000 },
      name: '@modelyard/jupyterlab:summary',
      standby: 'when-hidden'
    });
  }

  readonly overview: Section<Overview>;
  readonly runs: RunsModel;
  readonly data: Section<DataList>;
  readonly models: Section<ModelList>;
  readonly serving: Section<EndpointList>;
  readonly drift: Section<DriftList>;

  /** Project, target or versions are others now, or the server came or went. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  project: Project | null = null;
  summary: Summary | null = null;
  /** What to do where panel and server are of different versions. */
  mismatch: { panel: string; server: string } | null = null;
  /** Why there is no summary. */
  problem: Problem | null = null;

  /** The project that the user chose; null: the one that the document belongs to. */
  get chosen(): string | null {
    return this._chosen;
  }

  choose(project: string | null): void {
    this._chosen = project;
    void this.look();
  }

  /** Whether the panel can be seen: only then is anything asked. */
  get visible(): boolean {
    return this._visible;
  }

  set visible(value: boolean) {
    if (value === this._visible) {
      return;
    }
    this._visible = value;
    if (value) {
      void this.look();
    } else {
      void this._poll.stop();
    }
    this._listen();
  }

  /** Seconds between two looks. */
  set seconds(seconds: number) {
    const interval = Math.max(1, seconds) * 1000;
    this._poll.frequency = { interval, backoff: true, max: Math.max(interval, MOST_SECONDS * 1000) };
  }

  /** Look at once: something has probably changed. */
  async look(): Promise<void> {
    if (this._visible) {
      await this._poll.refresh();
      await this._poll.tick.catch(() => undefined);
    } else {
      await this._ask().catch(() => undefined);
    }
  }

  /** Load everything that is looked at anew. */
  async refresh(): Promise<void> {
    await this.look();
    await Promise.all(this._sections().map(one => (one.active ? one.refresh() : undefined)));
  }

  /** Ask something about the current project. */
  async get<T>(path: string[], query: Record<string, string> = {}): Promise<T> {
    return this.client.get<T>(await this._current(), path, query);
  }

  /** Change something in the current project. */
  async post<T>(path: string[], body: unknown, key?: string): Promise<T> {
    const answer = await this.client.post<T>(await this._current(), path, body, key);
    void this.look();
    return answer;
  }

  /** The project's id. Who asks before the first look, e.g. a command right after the page came, waits for it. */
  private async _current(): Promise<string> {
    if (!this.summary) {
      await this.look();
    }
    if (!this.project) {
      throw new Refusal(404, NO_PROJECT);
    }
    return this.project.id;
  }

  private async _ask(): Promise<void> {
    const query = { near: this._world.near(), project: this._chosen ?? undefined };
    try {
      const { summary, etag } = await this.client.summary(query, this._etag);
      this._etag = etag;
      this._take(summary ?? this.summary!);
    } catch (fault) {
      this._etag = null;
      this.problem = refusalOf(fault).problem;
      this._sections().forEach(one => one.markStale());
      this._changed.emit();
      throw fault; // the poll asks less often then
    }
  }

  private _take(summary: Summary): void {
    const before = [this.project?.id, this.summary, this.problem];
    this.summary = summary;
    this.problem = null;
    this.mismatch = summary.version === VERSION ? null : { panel: VERSION, server: summary.version };
    this.project = summary.projects.find(one => one.id === summary.project) ?? null;
    if (before[0] !== this.project?.id) {
      this._enter();
    }
    if (before[1] !== summary || before[2] !== null) {
      this._changed.emit();
    }
    this._offer(summary.stamps);
  }

  private _enter(): void {
    this.runs.enter(this.project?.id ?? '');
    this._sections().forEach(one => one !== this.runs && one.reset());
    this._listen();
  }

  private _offer(stamps: Record<string, string>): void {
    for (const [name, stamp] of Object.entries(stamps)) {
      if (name in SECTIONS) {
        this[name as SectionName].offer(stamp);
      }
    }
  }

  /** A stream is only open while there are running runs on the screen: an idle panel costs nothing. */
  private _listen(): void {
    const wanted = this._visible && this.runs.active && this.runs.anyRunning && this.project !== null;
    this._live.listen(wanted ? this.client.address(this.project!.id, ['events']) : null);
  }

  private _sections(): Loaded<unknown>[] {
    return (Object.keys(SECTIONS) as SectionName[]).map(name => this[name] as Loaded<unknown>);
  }

  private readonly _live: Live;
  private readonly _poll: Poll;
  private readonly _changed = new Signal<this, void>(this);
  private _chosen: string | null = null;
  private _etag: string | null = null;
  private _visible = false;
}

const SECTIONS: Record<SectionName, true> = {
  overview: true,
  runs: true,
  data: true,
  models: true,
  serving: true,
  drift: true
};

const NO_PROJECT: Problem = {
  code: 'project-not-found',
  message: 'there is no project around this document',
  hint: 'modelyard init',
  plugin: null,
  details: {}
};
