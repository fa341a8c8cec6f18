import { ServerConnection } from '@jupyterlab/services';
import * as React from 'react';

import { Refusal } from '../api/refusal';
import type { Problem } from '../api/types';
import { Answer } from '../components/answer';
import { Button } from '../components/bits';
import { h } from '../components/h';
import { useApp } from '../components/hooks';
import { sealed } from '../model/drift';
import type { YardModel } from '../model/yard';

/**
 * The tab of a drift report: a page of another tool, shut into a frame.
 *
 * The page is fetched and handed to the frame, because a frame that loads an address by itself can't tell a
 * refusal from a report.
 */
export function ReportTab(props: {
  model: YardModel;
  endpoint: string;
  version?: string;
}): JSX.Element {
  const { trans } = useApp();
  const { model, endpoint, version } = props;
  const [making, setMaking] = React.useState(true);
  const name = version
    ? trans.__('Drift report: %1, version %2', endpoint, version)
    : trans.__('Drift report: %1', endpoint);
  const address = () =>
    model.client.address(model.project!.id, ['reports', endpoint], version ? { version } : {});
  const ask = async () => {
    setMaking(true);
    try {
      return await pageAt(address());
    } finally {
      setMaking(false);
    }
  };
  return (
    <div className="modelyard-ReportTab">
      <Answer model={model} ask={ask} about={`${endpoint} ${version ?? ''}`}>
        {(page, again) => (
          <>
            <div className="modelyard-Buttons">
              <span className="modelyard-Hint">
                {trans.__('A page of the monitoring tool, from')}{' '}
                <a href={address()} target="_blank" rel="noopener noreferrer">
                  {trans.__('the report of %1 at the Jupyter server', endpoint)}
                </a>
              </span>
              <Button onClick={again}>{trans.__('Make it anew')}</Button>
            </div>
            <iframe title={name} sandbox="allow-scripts" srcDoc={sealed(page)} />
          </>
        )}
      </Answer>
      {making && (
        <p role="status" className="modelyard-ReportTab-making">
          {trans.__('The report is being made from the prediction log. This can take a minute.')}
        </p>
      )}
    </div>
  );
}

async function pageAt(address: string): Promise<string> {
  const settings = ServerConnection.makeSettings();
  const answer = await ServerConnection.makeRequest(address, {}, settings);
  const text = await answer.text();
  if (!answer.ok) {
    throw new Refusal(answer.status, problemIn(text, answer.status));
  }
  return text;
}

function problemIn(text: string, status: number): Problem {
  try {
    return JSON.parse(text) as Problem;
  } catch {
    const message = `the Jupyter server answered ${status}`;
    return { code: 'server-refused', message, hint: 'reload the page', plugin: null, details: {} };
  }
}
