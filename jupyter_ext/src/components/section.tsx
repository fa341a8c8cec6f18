import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { CommandIDs } from '../commandids';
import { Problem } from '../api/types';
import { Loaded } from '../model/section';
import { Button, Copyable, Time } from './bits';
import { h } from './h';
import { useApp, useSignal } from './hooks';

/** What a section shows where there is nothing yet. */
export interface EmptyText {
  sentence: string;
  action?: { label: string; run: () => void };
  code?: string;
}

/** The states that every section has; `children` draws the data. */
export function SectionBody<T>(props: {
  section: Loaded<T>;
  trans: TranslationBundle;
  isEmpty: (data: T) => boolean;
  empty: EmptyText;
  children: (data: T) => React.ReactNode;
}): JSX.Element {
  const { section, trans } = props;
  useSignal(section.changed);
  const { data, problem, status, stale, updated, phase } = section.state;
  if (data === null && phase === 'loading') {
    return <Waiting trans={trans} />;
  }
  return (
    <div className={`modelyard-Section${stale ? ' modelyard-mod-stale' : ''}`}>
      {problem && (
        <Failure problem={problem} status={status} trans={trans} retry={() => void section.refresh()} />
      )}
      {stale && updated !== null && (
        <p className="modelyard-Stale">
          {trans.__('Old data, updated')} <Time at={updated} />
        </p>
      )}
      {data !== null && (props.isEmpty(data) ? <Empty {...props.empty} /> : props.children(data))}
    </div>
  );
}

/** Says after a moment that something is on its way: what is quick never flickers. */
export function Waiting(props: { trans: TranslationBundle; what?: string }): JSX.Element {
  const [late, setLate] = React.useState(false);
  React.useEffect(() => {
    const timer = window.setTimeout(() => setLate(true), 200);
    return () => window.clearTimeout(timer);
  }, []);
  return (
    <div role="status" className="modelyard-Waiting">
      {late && (
        <>
          <span className="modelyard-Hidden">{props.what ?? props.trans.__('Loading…')}</span>
          <div aria-hidden="true" className="modelyard-Skeleton" />
          <div aria-hidden="true" className="modelyard-Skeleton" />
          <div aria-hidden="true" className="modelyard-Skeleton" />
        </>
      )}
    </div>
  );
}

/** One sentence, one action, and code to copy. */
export function Empty(props: EmptyText): JSX.Element {
  return (
    <div className="modelyard-Empty">
      <p>{props.sentence}</p>
      {props.code && <Copyable code={props.code} />}
      {props.action && <Button onClick={props.action.run}>{props.action.label}</Button>}
    </div>
  );
}

/** Why it failed, whose fault it is, and what to do next. */
export function Failure(props: {
  problem: Problem;
  status: number | null;
  trans: TranslationBundle;
  retry?: () => void;
  /** Whether the doctor could know more; it can't without a server. */
  doctor?: boolean;
}): JSX.Element {
  const { problem, trans } = props;
  const { commands } = useApp();
  if (props.status === 501) {
    return (
      <div className="modelyard-Missing" role="alert">
        <p>{trans.__('Not installed: %1', problem.message)}</p>
        {problem.hint && <Copyable code={problem.hint} />}
        {props.retry && <Button onClick={props.retry}>{trans.__('Try again')}</Button>}
      </div>
    );
  }
  return (
    <div className="modelyard-Failure" role="alert">
      <p>
        <span aria-hidden="true" className="modelyard-Light-mark">
          ✕{' '}
        </span>
        {problem.plugin && <strong>{problem.plugin}: </strong>}
        {problem.message}
      </p>
      {problem.hint && <p className="modelyard-Hint">{problem.hint}</p>}
      <div className="modelyard-Buttons">
        {props.retry && <Button onClick={props.retry}>{trans.__('Try again')}</Button>}
        {props.doctor !== false && (
          <Button onClick={() => void commands.execute(CommandIDs.doctor)}>{trans.__('Open doctor')}</Button>
        )}
      </div>
    </div>
  );
}
