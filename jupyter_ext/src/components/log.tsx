import * as React from 'react';

import type { LogLines } from '../api/types';
import type { YardModel } from '../model/yard';
import { Answer } from './answer';
import { Button } from './bits';
import { h } from './h';
import { useApp } from './hooks';

/** The end of a log, asked for again by a button, and when `about` changes. */
export function Log(props: {
  model: YardModel;
  path: string[];
  label: string;
  /** What is said where there are no lines. */
  empty: string;
  about?: string;
}): JSX.Element {
  const { trans } = useApp();
  const { model, path, label, empty, about } = props;
  return (
    <Answer
      model={model}
      ask={() => model.get<LogLines>(path)}
      about={`${path.join('/')} ${about ?? ''}`}
    >
      {(log, again) => (
        <>
          <pre className="modelyard-Log" tabIndex={0} aria-label={label}>
            {log.lines.join('\n') || empty}
          </pre>
          <div className="modelyard-Buttons">
            <Button onClick={again}>{trans.__('Newest lines')}</Button>
          </div>
        </>
      )}
    </Answer>
  );
}
