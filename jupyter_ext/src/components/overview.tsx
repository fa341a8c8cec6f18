import * as React from 'react';

import { AlertLine, Move, Overview, PluginLight } from '../api/types';
import { CommandIDs } from '../commandids';
import { YardModel } from '../model/yard';
import { Button, Light, Time } from './bits';
import { h } from './h';
import { useApp } from './hooks';
import { SectionBody } from './section';

/** The project at a glance. */
export function OverviewSection(props: { model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  return (
    <SectionBody
      section={props.model.overview}
      trans={trans}
      isEmpty={overview => overview.lights.length === 0}
      empty={{
        sentence: trans.__('This project names no tools yet.'),
        action: { label: trans.__('Open doctor'), run: () => void commands.execute(CommandIDs.doctor) },
        code: 'modelyard doctor'
      }}
    >
      {overview => (
        <div className="modelyard-Overview">
          <p>
            <strong>{overview.name}</strong> {trans.__('on target')} <strong>{overview.target}</strong>
          </p>
          <Counts overview={overview} />
          <Alerts alerts={overview.alerts} />
          <LastMove move={overview.last_move} />
          <Lights lights={overview.lights} />
          <div className="modelyard-Buttons">
            <Button onClick={() => void commands.execute(CommandIDs.doctor)}>
              {trans.__('Open doctor')}
            </Button>
          </div>
        </div>
      )}
    </SectionBody>
  );
}

function Counts(props: { overview: Overview }): JSX.Element {
  const { trans } = useApp();
  const { running, alerts } = props.overview;
  return (
    <p className="modelyard-Counts">
      <Light
        kind={running ? 'running' : 'ok'}
        word={
          running
            ? trans._n('%1 run is running', '%1 runs are running', running, running)
            : trans.__('no run is running')
        }
      />
      <Light
        kind={alerts.length ? 'warning' : 'ok'}
        word={
          alerts.length
            ? trans._n('%1 alert', '%1 alerts', alerts.length, alerts.length)
            : trans.__('no alerts')
        }
      />
    </p>
  );
}

/** Alerts that are always in sight; the others are one click away. */
const SHOWN = 2;

function Alerts(props: { alerts: readonly AlertLine[] }): JSX.Element | null {
  const { trans } = useApp();
  if (!props.alerts.length) {
    return null;
  }
  const [first, rest] = [props.alerts.slice(0, SHOWN), props.alerts.slice(SHOWN)];
  return (
    <>
      <AlertLines alerts={first} label={trans.__('Alerts')} />
      {rest.length > 0 && (
        <details>
          <summary>{trans._n('%1 more alert', '%1 more alerts', rest.length, rest.length)}</summary>
          <AlertLines alerts={rest} label={trans.__('More alerts')} />
        </details>
      )}
    </>
  );
}

function AlertLines(props: { alerts: readonly AlertLine[]; label: string }): JSX.Element {
  return (
    <ul className="modelyard-Lines" aria-label={props.label}>
      {props.alerts.map((alert, index) => (
        <li key={index} title={alert.endpoint}>
          <Light kind={alert.severity === 'critical' ? 'failed' : 'warning'} word={alert.severity} />:{' '}
          {alert.summary || alert.name}
        </li>
      ))}
    </ul>
  );
}

function LastMove(props: { move: Move | null }): JSX.Element {
  const { trans } = useApp();
  const { move } = props;
  if (!move) {
    return <p className="modelyard-Hint">{trans.__('Nothing was promoted yet.')}</p>;
  }
  const what =
    move.action === 'rollback'
      ? trans.__('%1 rolled %2 back to %3', move.user, move.model, move.to_version ?? '–')
      : trans.__('%1 gave %2/%3 the alias %4', move.user, move.model, move.to_version ?? '–', move.alias);
  return (
    <p title={move.reason}>
      {what}, <Time at={move.time} />
      {move.status !== 'completed' && ` (${move.status})`}
    </p>
  );
}

function Lights(props: { lights: readonly PluginLight[] }): JSX.Element {
  const { trans } = useApp();
  return (
    <table className="modelyard-Table">
      <caption className="modelyard-Hidden">{trans.__('How the tools are')}</caption>
      <thead className="modelyard-Hidden">
        <tr>
          <th scope="col">{trans.__('Stage')}</th>
          <th scope="col">{trans.__('Tool')}</th>
          <th scope="col">{trans.__('State')}</th>
        </tr>
      </thead>
      <tbody>
        {props.lights.map(light => (
          <tr key={light.stage}>
            <th scope="row">{light.stage}</th>
            <td>{light.provider}</td>
            <td title={light.hint}>
              <Light kind={light.light} word={light.message} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
