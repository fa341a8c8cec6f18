import * as React from 'react';

import { refusalOf } from '../api/refusal';
import type { EndpointDetails, EndpointRow, Problem, TryAnswer } from '../api/types';
import { Answer } from '../components/answer';
import { Button, Facts, Light } from '../components/bits';
import { Field, Refused, Row, Table } from '../components/fields';
import { h } from '../components/h';
import { Health } from '../components/health';
import { useApp, useSignal } from '../components/hooks';
import { Log } from '../components/log';
import { CanaryField, EndpointHead } from '../components/serving';
import { number } from '../model/format';
import { editorText, latency, requestIn, revisionState } from '../model/serving';
import type { YardModel } from '../model/yard';
import { SectionCommands } from '../sections/commands';
import { useDone } from '../sections/doings';
import { Moves } from './model';

/** The tab of one endpoint: revisions, why they are as they are, a request to try, log and history. */
export function EndpointTab(props: { model: YardModel; endpoint: string }): JSX.Element {
  const { model, endpoint } = props;
  useSignal(model.serving.changed);
  // What the section hears is news for this tab too.
  const known = model.serving.state.data?.rows.find(row => row.name === endpoint);
  const news = `${endpoint} ${useDone(model)} ${JSON.stringify(known ?? '')}`;
  return (
    <div className="modelyard-EndpointTab" data-endpoint={endpoint}>
      <Answer
        model={model}
        ask={() => model.get<EndpointDetails>(['endpoints', endpoint])}
        about={news}
      >
        {(details, again) => <Details model={model} details={details} again={again} />}
      </Answer>
    </div>
  );
}

function Details(props: {
  model: YardModel;
  details: EndpointDetails;
  again: () => void;
}): JSX.Element {
  const { trans, commands } = useApp();
  const { model, details, again } = props;
  const { row } = details;
  // What keeps it comes first; by their keys both stay themselves, with what was written there.
  const health = <Health key="health" details={details} />;
  const tried = (
    <React.Fragment key="try">
      <h2>{trans.__('Try a request')}</h2>
      <Try model={model} details={details} />
    </React.Fragment>
  );
  return (
    <>
      <h1>{trans.__('Endpoint %1', row.name)}</h1>
      <EndpointHead row={row} />
      {row.canary !== null && <CanaryField row={row} />}
      <div className="modelyard-Buttons">
        <Button onClick={again}>{trans.__('Refresh')}</Button>
        <Button
          onClick={() => void commands.execute(SectionCommands.openReport, { endpoint: row.name })}
        >
          {trans.__('Open the drift report')}
        </Button>
      </div>
      <h2>{trans.__('Revisions')}</h2>
      <Revisions row={row} />
      {row.ready ? [tried, health] : [health, tried]}
      <h2>{trans.__('Log')}</h2>
      <Log
        model={model}
        path={['endpoints', row.name, 'log']}
        label={trans.__('Log of %1', row.name)}
        empty={trans.__('It has said nothing yet.')}
      />
      <h2>{trans.__('History')}</h2>
      <Moves moves={details.history} />
    </>
  );
}

function Revisions(props: { row: EndpointRow }): JSX.Element {
  const { trans } = useApp();
  const head = [
    trans.__('Revision'),
    trans.__('Model'),
    trans.__('Version'),
    trans.__('Traffic'),
    trans.__('State'),
    trans.__('Requests'),
    trans.__('Errors'),
    trans.__('95 % within'),
    trans.__('It says')
  ];
  return (
    <Table label={trans.__('Revisions')} head={head}>
      {props.row.revisions.map(revision => (
        <Row
          key={revision.name}
          about={revision.name}
          cells={[
            revision.model || '–',
            revision.version || '–',
            `${revision.traffic} %`,
            <Light
              kind={revision.failed ? 'failed' : revision.ready ? 'ok' : 'unknown'}
              word={revisionState(revision, trans)}
            />,
            number(revision.requests),
            number(revision.errors),
            latency(revision, trans),
            revision.message
          ]}
        />
      ))}
    </Table>
  );
}

function Try(props: { model: YardModel; details: EndpointDetails }): JSX.Element {
  const { trans } = useApp();
  const { model, details } = props;
  const [text, setText] = React.useState(() => editorText(details.example));
  const [fault, setFault] = React.useState<string>();
  const [answer, setAnswer] = React.useState<TryAnswer | null>(null);
  const [problem, setProblem] = React.useState<Problem | null>(null);
  const [busy, setBusy] = React.useState(false);
  const field = React.useRef<HTMLTextAreaElement>(null);

  const send = async (event: React.FormEvent) => {
    event.preventDefault();
    const request = requestIn(text, trans);
    setFault('fault' in request ? request.fault : undefined);
    if ('fault' in request) {
      field.current?.focus();
      return;
    }
    if (busy) {
      return;
    }
    setBusy(true);
    setProblem(null);
    try {
      setAnswer(await model.post<TryAnswer>(['endpoints', details.row.name, 'try'], request));
    } catch (refused) {
      setAnswer(null);
      setProblem(refusalOf(refused).problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form className="modelyard-Try" onSubmit={event => void send(event)} noValidate>
      <p className="modelyard-Hint">
        {trans.__('It is a request like any other, and stands in the prediction log.')}
      </p>
      <Field label={trans.__('Rows as JSON')} fault={fault}>
        {given => (
          <textarea
            {...given}
            ref={field}
            className="modelyard-Editor"
            rows={Math.min(16, Math.max(5, text.split('\n').length))}
            spellCheck={false}
            value={text}
            onChange={event => setText(event.target.value)}
          />
        )}
      </Field>
      <div className="modelyard-Buttons">
        <Button main type="submit" aria-disabled={busy}>
          {busy ? trans.__('Waiting…') : trans.__('Send')}
        </Button>
        <Button onClick={() => setText(editorText(details.example))}>
          {trans.__('Back to the example')}
        </Button>
      </div>
      {problem && <Refused problem={problem} />}
      <div role="status">{answer && <Answered answer={answer} />}</div>
    </form>
  );
}

function Answered(props: { answer: TryAnswer }): JSX.Element {
  const { trans } = useApp();
  const { answer } = props;
  return (
    <div className="modelyard-Answered">
      <pre tabIndex={0} aria-label={trans.__('Predictions')}>
        {JSON.stringify(answer.predictions, null, 2)}
      </pre>
      <Facts
        rows={[
          [trans.__('Answered by'), trans.__('%1 version %2', answer.model, answer.version)],
          [trans.__('Revision'), answer.revision],
          [trans.__('Took'), trans.__('%1 ms', number(answer.milliseconds))],
          [trans.__('Prediction id'), <code>{answer.id}</code>]
        ]}
      />
    </div>
  );
}
