import * as React from 'react';

import type { DriftCell, DriftRow, DriftWindow } from '../api/types';
import {
  SHOWN_WINDOWS,
  cellView,
  driftSentence,
  drifting,
  labelSentence,
  qualityLines,
  shareLine,
  spanOf,
  stepped,
  windowHead
} from '../model/drift';
import { absolute } from '../model/format';
import { percent } from '../model/words';
import type { YardModel } from '../model/yard';
import { SectionCommands } from '../sections/commands';
import { Button, Light } from './bits';
import { Row, Table } from './fields';
import { h } from './h';
import { useApp } from './hooks';
import { SectionBody } from './section';

const CODE = 'run.log_model(model, name="my-model", example=X[:5], reference=X)';
const [WIDTH, HEIGHT] = [240, 44];

/** The section Drift: what is watched, and which columns left their reference. */
export function Drift(props: { model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { drift } = props.model;
  return (
    <SectionBody
      section={drift}
      trans={trans}
      isEmpty={data => !data.rows.length}
      empty={{
        sentence: trans.__(
          'Nothing is watched yet: an endpoint whose model has a reference is, once it gets requests.'
        ),
        code: CODE,
        action: {
          label: trans.__('Try a request…'),
          run: () => void commands.execute(SectionCommands.tryRequest)
        }
      }}
    >
      {data => (
        <ul className="modelyard-Cards" aria-label={trans.__('Watched models')}>
          {data.rows.map(row => (
            <Watched key={`${row.endpoint} ${row.model}/${row.version}`} row={row} />
          ))}
        </ul>
      )}
    </SectionBody>
  );
}

function Watched(props: { row: DriftRow }): JSX.Element {
  const { trans, commands } = useApp();
  const { row } = props;
  const bad = drifting(row);
  const name = trans.__('%1 version %2', row.model, row.version);
  const which = { endpoint: row.endpoint, version: row.version };
  return (
    <li className="modelyard-Card" aria-label={name}>
      <div className="modelyard-Card-head">
        <h3>{name}</h3>
        <Light
          kind={bad === null ? 'unknown' : bad ? 'warning' : 'ok'}
          word={
            bad === null ? trans.__('not judged') : bad ? trans.__('drift') : trans.__('no drift')
          }
        />
        <span className="modelyard-Hint">{trans.__('behind %1', row.endpoint)}</span>
      </div>
      <p>{driftSentence(row, trans)}</p>
      <ShareChart row={row} />
      <Heatmap row={row} name={name} />
      <Quality row={row} name={name} />
      <p className="modelyard-Hint">{labelSentence(row, trans)}</p>
      {row.alerts.length > 0 && (
        <ul className="modelyard-Alerts" aria-label={trans.__('Alerts of %1', row.endpoint)}>
          {row.alerts.map(alert => (
            <li key={`${alert.name} ${alert.summary}`}>
              <Light kind={alert.severity === 'critical' ? 'failed' : 'warning'} word={alert.severity} />{' '}
              {alert.summary}
            </li>
          ))}
        </ul>
      )}
      <div className="modelyard-Buttons">
        <Button onClick={() => void commands.execute(SectionCommands.openReport, which)}>
          {trans.__('Open the report')}
        </Button>
      </div>
    </li>
  );
}

function ShareChart(props: { row: DriftRow }): JSX.Element | null {
  const { trans } = useApp();
  const line = shareLine(props.row, WIDTH, HEIGHT);
  if (!line.points.length) {
    return null;
  }
  const shares = line.points.map(point => percent(point.share));
  const said = trans.__('Drifted columns, window by window: %1', shares.join(', '));
  return (
    <figure className="modelyard-ShareChart">
      <svg
        viewBox={`-4 -4 ${WIDTH + 8} ${HEIGHT + 8}`}
        role="img"
        aria-label={said}
        preserveAspectRatio="none"
      >
        <title>{said}</title>
        {line.limitY !== null && (
          <line
            className="modelyard-ShareChart-limit"
            x1={0}
            x2={WIDTH}
            y1={line.limitY}
            y2={line.limitY}
          />
        )}
        <path className="modelyard-ShareChart-line" d={line.path} />
        {line.points.map((point, place) => (
          <circle key={place} cx={point.x} cy={point.y} r={2.5} />
        ))}
      </svg>
      <figcaption className="modelyard-Hint">
        {trans.__('Share of drifted columns, now %1', shares[shares.length - 1])}
        {line.limit !== null && (
          <> · {trans.__('broken line: one column (%1)', percent(line.limit))}</>
        )}
      </figcaption>
    </figure>
  );
}

function Heatmap(props: { row: DriftRow; name: string }): JSX.Element | null {
  const { trans } = useApp();
  const { row, name } = props;
  const [back, setBack] = React.useState(0);
  const total = row.windows.length;
  if (!total || !row.columns.length) {
    return null;
  }
  const span = spanOf(total, back);
  const windows = row.windows.slice(span.from, span.to);
  const step = (by: number) => setBack(stepped(total, back, by));
  const label = trans.__('Drift of %1 by column and window', name);
  const head = [
    trans.__('Column'),
    ...windows.map(window => (
      <span title={titleOf(window, trans.__('%1 rows', window.rows))}>{windowHead(window)}</span>
    ))
  ];
  return (
    <>
      <Table label={label} head={head} className="modelyard-Heatmap" end={span.to}>
        {row.columns.map((column, place) => (
          <tr key={column}>
            <th scope="row">{column}</th>
            {windows.map(window => (
              <Cell key={window.start} cell={window.cells[place] ?? null} window={window} />
            ))}
          </tr>
        ))}
      </Table>
      <p className="modelyard-Hint">
        {trans.__('▲ above its limit · ? not scored · a dot: too few rows to judge')}
      </p>
      {total > SHOWN_WINDOWS && (
        <div className="modelyard-Buttons">
          <Button
            aria-disabled={!span.older}
            aria-label={trans.__('Older windows of %1', name)}
            onClick={() => step(SHOWN_WINDOWS)}
          >
            {trans.__('◀ Older')}
          </Button>
          <Button
            aria-disabled={!span.newer}
            aria-label={trans.__('Newer windows of %1', name)}
            onClick={() => step(-SHOWN_WINDOWS)}
          >
            {trans.__('Newer ▶')}
          </Button>
          <span className="modelyard-Hint" role="status">
            {trans.__('windows %1 to %2 of %3', span.from + 1, span.to, total)}
          </span>
        </div>
      )}
    </>
  );
}

function Cell(props: { cell: DriftCell | null; window: DriftWindow }): JSX.Element {
  const { trans } = useApp();
  const { state, shown, told } = cellView(props.cell, props.window, trans);
  return (
    <td className={`modelyard-mod-${state}`} title={told}>
      <span aria-hidden="true">{shown}</span>
      <span className="modelyard-Hidden">{told}</span>
    </td>
  );
}

function titleOf(window: DriftWindow, rows: string): string {
  return `${absolute(window.start)} – ${absolute(window.end)}: ${rows}`;
}

function Quality(props: { row: DriftRow; name: string }): JSX.Element | null {
  const { trans } = useApp();
  const lines = qualityLines(props.row);
  if (!lines.length) {
    return <p className="modelyard-Hint">{trans.__('Quality is not known: no labels have come yet.')}</p>;
  }
  const label = trans.__('Quality of %1 in the last window with labels', props.name);
  const head = [trans.__('Measure'), trans.__('Now'), trans.__('Reference')];
  return (
    <Table label={label} head={head}>
      {lines.map(line => (
        <Row key={line.name} about={line.name} cells={[line.value, line.reference]} />
      ))}
    </Table>
  );
}
