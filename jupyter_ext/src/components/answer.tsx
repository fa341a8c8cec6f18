import * as React from 'react';

import { refusalOf, Refusal } from '../api/refusal';
import { YardModel } from '../model/yard';
import { Button } from './bits';
import { h } from './h';
import { useApp, useSignal } from './hooks';
import { Failure, Waiting } from './section';

/** What a tab shows of one question: the answer, that it is awaited, or why there is none. */
export function Answer<T>(props: {
  model: YardModel;
  ask: () => Promise<T>;
  /** Another value asks again, and shows the old answer until then. */
  about: string;
  children: (answer: T, again: () => void) => React.ReactNode;
}): JSX.Element {
  const { trans } = useApp();
  const { model } = props;
  useSignal(model.changed);
  const [answer, setAnswer] = React.useState<{ value: T } | null>(null);
  const [refusal, setRefusal] = React.useState<Refusal | null>(null);
  const [times, setTimes] = React.useState(0);
  const again = React.useCallback(() => setTimes(count => count + 1), []);
  const project = model.project?.id;
  React.useEffect(() => {
    // A tab that came back after a reload is there before the first summary.
    if (project === undefined) {
      void model.look();
      return;
    }
    let wanted = true;
    props.ask().then(
      value => {
        if (wanted) {
          setAnswer({ value });
          setRefusal(null);
        }
      },
      fault => wanted && setRefusal(refusalOf(fault))
    );
    return () => {
      wanted = false;
    };
  }, [project, props.about, times]);
  if (project === undefined && model.problem) {
    return (
      <div className="modelyard-TabBody">
        <Failure
          problem={model.problem}
          status={null}
          trans={trans}
          retry={() => void model.look()}
          doctor={false}
        />
      </div>
    );
  }
  if (project === undefined && model.summary) {
    return (
      <div className="modelyard-TabBody">
        <p>{trans.__('There is no project here.')}</p>
        <Button onClick={() => void model.look()}>{trans.__('Try again')}</Button>
      </div>
    );
  }
  return (
    <div className="modelyard-TabBody">
      {refusal && <Failure problem={refusal.problem} status={refusal.status} trans={trans} retry={again} />}
      {answer ? props.children(answer.value, again) : !refusal && <Waiting trans={trans} />}
    </div>
  );
}
