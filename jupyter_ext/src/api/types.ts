// Made from modelyard_jupyter/api.py by `npm run types`: change it there.
/* eslint-disable */

/**
 * A rule that fires.
 */
export interface AlertLine {
  name: string;
  severity: string;
  summary: string;
  endpoint: string;
}
/**
 * Where the code of a run was.
 */
export interface CodeState {
  commit: string | null;
  branch: string | null;
  dirty: boolean;
  changed: string[];
  entry_point: string;
  cell: string | null;
  /**
   * The cell's text when it ran, if it is known.
   */
  source: string | null;
}
/**
 * Runs side by side.
 */
export interface Comparison {
  runs: RunRow[];
  lines: Difference[];
}
/**
 * A run in the list.
 */
export interface RunRow {
  id: string;
  name: string;
  status: 'running' | 'finished' | 'failed' | 'killed';
  started: string;
  ended: string | null;
  user: string;
  params: {
    [k: string]: string;
  };
  metrics: {
    [k: string]: number | null;
  };
  /**
   * `ROLE NAME@VERSION`.
   */
  data: string[];
  models: string[];
  notebook: string | null;
  cell: string | null;
}
/**
 * One line of a comparison; `values` in the order of the runs, None where a run has none.
 */
export interface Difference {
  kind: 'param' | 'metric' | 'data' | 'code';
  name: string;
  values: (string | number | null)[];
  differs: boolean;
}
/**
 * What KServe says about a part of an endpoint.
 */
export interface ConditionRow {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
  since: string | null;
}
/**
 * A metric over its steps, at most 200 points.
 */
export interface Curve {
  run: string;
  name: string;
  steps: number[];
  values: (number | null)[];
}
/**
 * All data sets.
 */
export interface DataList {
  rows: DataRow[];
  remote: string | null;
}
/**
 * The current version of a data set.
 */
export interface DataRow {
  name: string;
  path: string;
  version: string;
  size: number;
  files: number;
  state: 'unchanged' | 'modified' | 'missing';
  published: boolean;
  remote: string | null;
  /**
   * Ids of runs that used this version, newest first.
   */
  used_by: string[];
}
/**
 * Which data sets to push or pull; none named means all.
 */
export interface DataWish {
  names: string[];
}
/**
 * One column in one window; `score` None: it could not be scored, and `error` says why.
 */
export interface DriftCell {
  score: number | null;
  threshold: number;
  drifted: boolean;
  missing_ratio: number;
  error: string | null;
}
/**
 * Everything that is watched.
 */
export interface DriftList {
  rows: DriftRow[];
}
/**
 * One model version behind an endpoint; windows oldest first.
 */
export interface DriftRow {
  endpoint: string;
  model: string;
  version: string;
  columns: string[];
  windows: DriftWindow[];
  alerts: AlertLine[];
}
/**
 * A closed span of event time. `cells` in the order of the columns; None: it has no such column.
 */
export interface DriftWindow {
  start: string;
  end: string;
  rows: number;
  labelled: number;
  enough: boolean;
  /**
   * Drifted columns by scored columns, 0 to 1.
   */
  share: number;
  cells: (DriftCell | null)[];
  quality: {
    [k: string]: number;
  };
  quality_reference: {
    [k: string]: number;
  };
}
/**
 * An endpoint with what its editor is filled from, and what helps to see why it is not ready.
 */
export interface EndpointDetails {
  row: EndpointRow;
  conditions: ConditionRow[];
  /**
   * The last ones, newest first.
   */
  events: EventRow[];
  /**
   * What to do about it; empty: nobody knows, or nothing is wrong.
   */
  advice: string;
  inputs: [string, string][];
  /**
   * A request to begin with.
   */
  example: unknown[];
  history: Move[];
}
/**
 * An endpoint.
 */
export interface EndpointRow {
  name: string;
  ready: boolean;
  reason: string;
  target: string;
  storage_uri: string;
  revisions: RevisionRow[];
  /**
   * The newest revision's share, where another could have some.
   */
  canary: number | null;
}
/**
 * One state of an endpoint; `requests` were answered since its processes started, 95 % of them within
 * `p95_ms`. None: not known.
 */
export interface RevisionRow {
  name: string;
  model: string;
  version: string;
  traffic: number;
  ready: boolean;
  failed: boolean;
  message: string;
  requests: number | null;
  errors: number | null;
  p95_ms: number | null;
}
/**
 * Something that happened to an endpoint, `count` times.
 */
export interface EventRow {
  time: string;
  type: 'Normal' | 'Warning';
  reason: string;
  message: string;
  count: number;
}
/**
 * An alias that moved: one line of the ledger.
 */
export interface Move {
  id: string;
  model: string;
  alias: string;
  action: 'promote' | 'rollback' | 'external';
  from_version: string | null;
  to_version: string | null;
  time: string;
  user: string;
  reason: string;
  status: 'pending' | 'completed' | 'abandoned';
  deployed: boolean | null;
  origin: string | null;
}
/**
 * All endpoints.
 */
export interface EndpointList {
  rows: EndpointRow[];
}
/**
 * What one gate says.
 */
export interface Gate {
  gate: string;
  passed: boolean;
  message: string;
  values: {
    [k: string]: unknown;
  };
}
/**
 * A version that held the alias and was deployed well; `seconds` it was in service.
 */
export interface GoodVersion {
  version: string;
  since: string;
  seconds: number;
  reason: string;
}
/**
 * Something that takes long: pushing, pulling. `done` and `total` count bytes or files.
 */
export interface Job {
  id: string;
  what: string;
  state: 'running' | 'finished' | 'failed';
  doing: string;
  done: number;
  total: number | null;
  problem: Problem | null;
}
/**
 * Why something can't be shown or done; as `ModelyardError` says it.
 */
export interface Problem {
  code: string;
  message: string;
  hint: string;
  /**
   * The provider that failed, e.g. `mlflow`.
   */
  plugin: string | null;
  details: {
    [k: string]: unknown;
  };
}
/**
 * A node of what stands behind a version or prediction.
 */
export interface LineageNode {
  kind: string;
  title: string;
  details: string[];
  parents: LineageNode[];
}
/**
 * The end of a log, oldest first.
 */
export interface LogLines {
  lines: string[];
}
/**
 * All registered models.
 */
export interface ModelList {
  rows: ModelRow[];
}
/**
 * A registered model; versions newest first.
 */
export interface ModelRow {
  name: string;
  versions: VersionRow[];
}
/**
 * A version of a model.
 */
export interface VersionRow {
  version: string;
  created: string;
  user: string;
  run_id: string | null;
  aliases: string[];
  signature: boolean;
  /**
   * Endpoints that give it traffic, `NAME 80 %`.
   */
  serving: string[];
  /**
   * Who gave it the alias that it holds now.
   */
  promoted_by: string | null;
}
/**
 * The project at a glance.
 */
export interface Overview {
  name: string;
  target: string;
  targets: string[];
  lights: PluginLight[];
  running: number;
  alerts: AlertLine[];
  last_move: Move | null;
}
/**
 * How one stage's provider is, as `modelyard doctor` sees it.
 */
export interface PluginLight {
  stage: string;
  provider: string;
  light: 'ok' | 'warning' | 'failed' | 'unknown';
  message: string;
  hint: string;
}
/**
 * A project that the Jupyter server can see; `id` names it in every other question.
 */
export interface Project {
  id: string;
  name: string;
  /**
   * Relative to the Jupyter server's root, with `/`.
   */
  folder: string;
}
/**
 * Give `alias` to a version; `expect` is who holds it as far as the asker knows (empty: nobody).
 */
export interface PromoteWish {
  version: string;
  alias: string;
  reason: string;
  expect: string;
}
/**
 * What the promote dialog shows before anything moves.
 */
export interface PromotionPlan {
  model: string;
  alias: string;
  candidate: Side;
  champion: Side | null;
  gates: Gate[];
  allowed: boolean;
  /**
   * What has to be typed for this alias.
   */
  must_type: string | null;
}
/**
 * Champion or candidate in the promote dialog.
 */
export interface Side {
  version: string;
  metrics: {
    [k: string]: number | null;
  };
  params: {
    [k: string]: string;
  };
  data: string[];
  signature: boolean;
  /**
   * Columns; None: nobody watches it.
   */
  drifted: string[] | null;
  created: string;
  user: string;
}
/**
 * Make the model that a run logged a version of `name`.
 */
export interface RegisterWish {
  name: string;
}
/**
 * What the rollback dialog shows. `to` is where it would go; None: there is nothing to go back to.
 */
export interface RollbackPlan {
  model: string;
  alias: string;
  current: string | null;
  to: string | null;
  good: GoodVersion[];
}
/**
 * Give `alias` back to the last version that was deployed well; `expect` as in `PromoteWish`.
 */
export interface RollbackWish {
  alias: string;
  reason: string;
  expect: string;
}
/**
 * Everything about one run.
 */
export interface RunDetails {
  row: RunRow;
  tags: {
    [k: string]: string;
  };
  code: CodeState;
  python: string | null;
  /**
   * Registered versions that it made, `NAME/VERSION`.
   */
  versions: string[];
  load_code: string;
}
/**
 * Some of the runs, in the order asked for; `total` counts all that fit the search.
 *
 * `more`: older runs are still being read, so that the total will grow: ask again soon.
 */
export interface RunPage {
  total: number;
  more: boolean;
  offset: number;
  rows: RunRow[];
  metric_names: string[];
  param_names: string[];
}
/**
 * Which runs. `sort` is `started`, `name`, `status`, `user`, `metric:NAME` or `param:NAME`.
 */
export interface RunQuery {
  offset: number;
  limit: number;
  search: string;
  status: '' | 'running' | 'finished' | 'failed' | 'killed';
  sort: string;
  descending: boolean;
}
/**
 * The answer to the only question that is asked all the time.
 *
 * A section whose stamp is the one that the front end knows has not changed.
 */
export interface Summary {
  version: string;
  projects: Project[];
  /**
   * The id of the project that the stamps are about.
   */
  project: string | null;
  target: string;
  stamps: {
    [k: string]: string;
  };
}
/**
 * The newest revision's share in percent.
 */
export interface TrafficWish {
  canary: number;
}
/**
 * What it answered.
 */
export interface TryAnswer {
  id: string;
  predictions: unknown[];
  model: string;
  version: string;
  revision: string;
  milliseconds: number;
}
/**
 * Rows to ask an endpoint about, as V1 instances.
 */
export interface TryWish {
  instances: unknown[];
}
/**
 * Everything about one version.
 */
export interface VersionDetails {
  model: string;
  row: VersionRow;
  tags: {
    [k: string]: string;
  };
  digest: string | null;
  /**
   * Columns of its signature: name and type.
   */
  inputs: [string, string][];
  lineage: LineageNode | null;
  history: Move[];
  load_code: string;
}
