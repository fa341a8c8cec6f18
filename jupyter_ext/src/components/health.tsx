import * as React from 'react';

import type { ConditionRow, EndpointDetails, EventRow } from '../api/types';
import { standing } from '../model/serving';
import { Light, Time } from './bits';
import { Row, Table } from './fields';
import { h } from './h';
import { useApp } from './hooks';

/** Why an endpoint is as it is: what to do about it, KServe's conditions, and what happened to it. */
export function Health(props: { details: EndpointDetails }): JSX.Element {
  const { trans } = useApp();
  const { conditions, events, advice } = props.details;
  return (
    <>
      <h2>{trans.__('Conditions')}</h2>
      {advice && <p className="modelyard-Card-reason">{trans.__('What to do: %1', advice)}</p>}
      {conditions.length ? (
        <Conditions rows={conditions} />
      ) : (
        <p className="modelyard-Hint">{trans.__('Nothing is known of it.')}</p>
      )}
      <h2>{trans.__('Events')}</h2>
      {events.length ? (
        <Events rows={events} />
      ) : (
        <p className="modelyard-Hint">{trans.__('Nothing has happened to it yet.')}</p>
      )}
    </>
  );
}

function Conditions(props: { rows: readonly ConditionRow[] }): JSX.Element {
  const { trans } = useApp();
  const head = [
    trans.__('Condition'),
    trans.__('Status'),
    trans.__('Since'),
    trans.__('Reason'),
    trans.__('It says')
  ];
  return (
    <Table label={trans.__('Conditions')} head={head}>
      {props.rows.map((one, place) => (
        <Row
          key={one.type}
          about={one.type}
          cells={[
            <Light kind={standing(one)} word={one.status} />,
            one.since ? <Time at={one.since} /> : '–',
            one.reason,
            one.message && one.message === props.rows[place - 1]?.message
              ? trans.__('(as above)')
              : one.message
          ]}
        />
      ))}
    </Table>
  );
}

function Events(props: { rows: readonly EventRow[] }): JSX.Element {
  const { trans } = useApp();
  const head = [trans.__('Event'), trans.__('Last'), trans.__('Times'), trans.__('It says')];
  return (
    <Table label={trans.__('Events')} head={head}>
      {props.rows.map((one, place) => (
        <Row
          key={place}
          about={<Light kind={one.type === 'Warning' ? 'warning' : 'ok'} word={one.reason} />}
          cells={[<Time at={one.time} />, one.count, one.message]}
        />
      ))}
    </Table>
  );
}
