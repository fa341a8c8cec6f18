import { Data } from '../components/data';
import { Drift } from '../components/drift';
import { Models } from '../components/models';
import { Serving } from '../components/serving';
import type { YardModel } from '../model/yard';
import type { PanelContext, SectionPart } from '../sections';
import { EndpointTab } from '../widgets/endpoint';
import { ModelTab } from '../widgets/model';
import { ReportTab } from '../widgets/report';
import { TabArgs, registerTab } from '../widgets/tabs';
import { registerCommands } from './commands';
import { h } from '../components/h';

export { paletteCommands } from './commands';

/** The panel's sections beside Overview and Runs. */
export const parts: SectionPart[] = [
  section('data', 'Data', 300, model => <Data model={model} />),
  { ...section('models', 'Models', 400, model => <Models model={model} />), collapsed: false },
  section('serving', 'Serving', 500, model => <Serving model={model} />),
  section('drift', 'Drift', 600, model => <Drift model={model} />)
];

function section(name: string, title: string, rank: number, render: SectionPart['render']): SectionPart {
  return { name, title, rank, collapsed: true, render };
}

/** Their commands and tabs. */
export function register(model: YardModel, context: PanelContext): void {
  const { trans } = context;
  registerCommands(model, context);
  registerTab(
    'model',
    args => <ModelTab model={model} name={said(args, 'model')} version={said(args, 'version')} />,
    args => `${said(args, 'model')}/${said(args, 'version')}`
  );
  registerTab(
    'endpoint',
    args => <EndpointTab model={model} endpoint={said(args, 'endpoint')} />,
    args => said(args, 'endpoint')
  );
  registerTab(
    'report',
    args => (
      <ReportTab
        model={model}
        endpoint={said(args, 'endpoint')}
        version={said(args, 'version') || undefined}
      />
    ),
    args => trans.__('Drift of %1', said(args, 'endpoint'))
  );
}

function said(args: TabArgs, name: string): string {
  const value = args[name];
  return typeof value === 'string' ? value : '';
}
