import { h } from '../components/h';
import { CompareTab } from '../components/compare';
import { DoctorTab } from '../components/doctor';
import { OverviewSection } from '../components/overview';
import { RunTab } from '../components/run';
import { RunsSection } from '../components/runs';
import { Notebooks, SourceTab } from '../components/source';
import { YardModel } from '../model/yard';
import { PanelContext, Sections } from '../sections';
import { registerTab } from './tabs';

/** Overview and Runs. */
export function addOwnSections(sections: Sections, { trans }: PanelContext): void {
  sections.add({
    name: 'overview',
    title: trans.__('Overview'),
    rank: 100,
    render: model => <OverviewSection model={model} />
  });
  sections.add({
    name: 'runs',
    title: trans.__('Runs'),
    rank: 200,
    render: model => <RunsSection model={model} />
  });
}

/** The tabs of a run, of a comparison, of a cell as it ran, and of the doctor. */
export function registerOwnTabs(
  model: YardModel,
  { trans }: PanelContext,
  notebooks: Notebooks | null
): void {
  registerTab(
    'run',
    ({ run }) => <RunTab model={model} run={String(run)} />,
    ({ run }) => model.runs.byId(String(run))?.name ?? trans.__('Run %1', String(run).slice(0, 6))
  );
  registerTab(
    'compare',
    ({ runs }) => <CompareTab model={model} runs={runs as string[]} />,
    ({ runs }) => trans.__('Compare %1 runs', runs.length)
  );
  registerTab(
    'doctor',
    () => <DoctorTab model={model} />,
    () => trans.__('Doctor')
  );
  if (notebooks) {
    registerTab(
      'source',
      ({ run, path }) => (
        <SourceTab model={model} notebooks={notebooks} run={String(run)} path={String(path)} />
      ),
      ({ run }) => trans.__('Cell of %1', String(run).slice(0, 6))
    );
  }
}
