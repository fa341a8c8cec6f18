import * as React from 'react';

import type { EndpointRow } from '../api/types';
import { shareIn, sharing, speedWords, stateOf, trafficWords, versionOf } from '../model/serving';
import type { YardModel } from '../model/yard';
import { SectionCommands } from '../sections/commands';
import { Button, Light } from './bits';
import { Field } from './fields';
import { h } from './h';
import { useApp } from './hooks';
import { SectionBody } from './section';

const CODE = 'endpoint = yard.endpoints.apply("my-model.yaml")';

/** The section Serving: endpoints, whether they answer, and who gets the traffic. */
export function Serving(props: { model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { serving } = props.model;
  return (
    <SectionBody
      section={serving}
      trans={trans}
      isEmpty={data => !data.rows.length}
      empty={{
        sentence: trans.__('No endpoint serves a model yet.'),
        code: CODE,
        action: {
          label: trans.__('Promote a version…'),
          run: () => void commands.execute(SectionCommands.promote)
        }
      }}
    >
      {data => (
        <ul className="modelyard-Cards" aria-label={trans.__('Endpoints')}>
          {data.rows.map(row => (
            <EndpointCard key={row.name} row={row} />
          ))}
        </ul>
      )}
    </SectionBody>
  );
}

function EndpointCard(props: { row: EndpointRow }): JSX.Element {
  const { trans, commands } = useApp();
  const { row } = props;
  const which = { endpoint: row.name };
  return (
    <li className="modelyard-Card" aria-label={row.name}>
      <EndpointHead row={row} named />
      {row.canary !== null && <CanaryField row={row} />}
      <div className="modelyard-Buttons">
        <Button onClick={() => void commands.execute(SectionCommands.openEndpoint, which)}>
          {trans.__('Details')}
        </Button>
        <Button onClick={() => void commands.execute(SectionCommands.tryRequest, which)}>
          {trans.__('Try a request')}
        </Button>
      </div>
    </li>
  );
}

/** Readiness with its reason, traffic and speed; with its name where nothing above says it. */
export function EndpointHead(props: { row: EndpointRow; named?: boolean }): JSX.Element {
  const { trans } = useApp();
  const { row } = props;
  const { light, word } = stateOf(row, trans);
  const speed = speedWords(row, trans);
  return (
    <>
      <div className="modelyard-Card-head">
        {props.named && <h3>{row.name}</h3>}
        <Light kind={light} word={word} />
        <span className="modelyard-Hint">{trans.__('on %1', row.target)}</span>
      </div>
      {row.reason && <p className="modelyard-Card-reason">{row.reason}</p>}
      <TrafficBar row={row} />
      <p className="modelyard-Hint">
        {speed || trans.__('Nobody has asked it since it started.')}
      </p>
    </>
  );
}

function TrafficBar(props: { row: EndpointRow }): JSX.Element {
  const { trans } = useApp();
  const { row } = props;
  return (
    <div className="modelyard-Traffic">
      <div className="modelyard-Traffic-bar" aria-hidden="true">
        {sharing(row).map((revision, place) => (
          <div
            key={revision.name}
            className={`modelyard-Traffic-part modelyard-mod-${place % 3}`}
            style={{ width: `${revision.traffic}%` }}
            title={revision.name}
          >
            {versionOf(revision)}
          </div>
        ))}
      </div>
      <p>{trafficWords(row, trans)}</p>
    </div>
  );
}

/** The newest revision's share, to be changed; drawn only where the traffic is split. */
export function CanaryField(props: { row: EndpointRow }): JSX.Element {
  const { trans, commands } = useApp();
  const { row } = props;
  const [text, setText] = React.useState(String(row.canary));
  const [fault, setFault] = React.useState<string>();
  // Another share from elsewhere wins over what was not applied.
  React.useEffect(() => setText(String(row.canary)), [row.canary]);
  const apply = (event: React.FormEvent) => {
    event.preventDefault();
    const canary = shareIn(text);
    if (canary === null) {
      setFault(trans.__('A whole number from 0 to 100.'));
    } else {
      setFault(undefined);
      void commands.execute(SectionCommands.setTraffic, { endpoint: row.name, canary });
    }
  };
  const newest = row.revisions[0];
  return (
    <form className="modelyard-Canary" onSubmit={apply} noValidate>
      <Field
        label={trans.__('Canary: version %1 gets, in percent', newest ? versionOf(newest) : '–')}
        fault={fault}
      >
        {field => (
          <input
            {...field}
            type="number"
            min={0}
            max={100}
            step={1}
            value={text}
            onChange={event => setText(event.target.value)}
          />
        )}
      </Field>
      <Button type="submit" aria-label={trans.__('Apply the canary share of %1', row.name)}>
        {trans.__('Apply')}
      </Button>
    </form>
  );
}
