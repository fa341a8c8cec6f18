import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Token } from '@lumino/coreutils';

import { Client } from './api/client';
import { addCommands, PALETTE } from './commands';
import { Context } from './context';
import { YardModel } from './model/yard';
import { LabNotebooks } from './notebooks';
import { PanelContext, Sections } from './sections';
import { paletteCommands, parts, register } from './sections/index';
import { IModelyard, ISections } from './tokens';
import { chipFactory } from './widgets/chip';
import { addOwnSections, registerOwnTabs } from './widgets/own';
import { YardPanel } from './widgets/panel';
import { statusWidget } from './widgets/status';
import { Tabs } from './widgets/tabs';

export * from './tokens';
export type { PanelContext, SectionPart } from './sections';

const PANEL = '@modelyard/jupyterlab:panel';

const IContext = new Token<PanelContext>('@modelyard/jupyterlab:IContext');

const modelPlugin: JupyterFrontEndPlugin<IModelyard> = {
  id: '@modelyard/jupyterlab:model',
  description: 'What the panel knows about the project.',
  autoStart: true,
  optional: [IDocumentManager],
  provides: IModelyard,
  activate: (app: JupyterFrontEnd, documents: IDocumentManager | null) => {
    let near = '';
    return new YardModel(new Client(app.serviceManager.serverSettings), {
      near: () => {
        const widget = app.shell.currentWidget;
        // A tab of ours is no document: the last one counts.
        near = (widget && documents?.contextForWidget(widget)?.path) ?? near;
        return near;
      },
      store: localStorage,
      stream: address => new EventSource(address)
    });
  }
};

const sectionsPlugin: JupyterFrontEndPlugin<ISections> = {
  id: '@modelyard/jupyterlab:sections',
  description: 'Where other extensions add sections to the panel.',
  autoStart: true,
  provides: ISections,
  activate: () => new Sections()
};

const contextPlugin: JupyterFrontEndPlugin<PanelContext> = {
  id: '@modelyard/jupyterlab:context',
  description: 'What sections, tabs and chips need of JupyterLab.',
  autoStart: true,
  optional: [INotebookTracker, ITranslator],
  provides: IContext,
  activate: (app: JupyterFrontEnd, notebooks: INotebookTracker | null, translator: ITranslator | null) =>
    new Context(app.commands, (translator ?? nullTranslator).load('modelyard'), notebooks)
};

const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: PANEL,
  description: 'Runs, data, models, endpoints and drift beside the notebook.',
  autoStart: true,
  requires: [IModelyard, ISections, IContext],
  optional: [ILabShell, ILayoutRestorer, ICommandPalette, ISettingRegistry, ITranslator, IDocumentManager],
  activate: (
    app: JupyterFrontEnd,
    model: YardModel,
    sections: Sections,
    context: PanelContext,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    settings: ISettingRegistry | null,
    translator: ITranslator | null,
    documents: IDocumentManager | null
  ) => {
    const notebooks = documents ? new LabNotebooks(documents) : null;
    registerOwnTabs(model, context, notebooks);
    register(model, context);
    // In Notebook 7 the main area holds one document: tabs of ours open below it.
    const tabs = new Tabs(app, context, labShell ? 'main' : 'down', restorer);
    addCommands({ app, model, context, tabs, notebooks });

    addOwnSections(sections, context);
    parts.forEach(part => sections.add(part));
    const panel = new YardPanel(model, context, sections, translator ?? nullTranslator);
    app.shell.add(panel, 'left', { rank: 650 });
    restorer?.add(panel, panel.id);
    [...PALETTE, ...paletteCommands].forEach(command =>
      palette?.addItem({ command, category: context.trans.__('Modelyard') })
    );
    labShell?.currentChanged.connect(() => model.visible && void model.look());
    void followSettings(settings, panel, model);
  }
};

async function followSettings(
  registry: ISettingRegistry | null,
  panel: YardPanel,
  model: YardModel
): Promise<void> {
  try {
    const settings = await registry?.load(PANEL);
    const follow = () => {
      panel.hiddenSections = (settings?.composite.hidden ?? []) as string[];
      model.seconds = (settings?.composite.pollSeconds ?? 5) as number;
    };
    settings?.changed.connect(follow);
    follow();
  } catch (fault) {
    console.warn('Modelyard: the settings could not be read, so that the panel uses its own.', fault);
  }
}

const chipPlugin: JupyterFrontEndPlugin<void> = {
  id: '@modelyard/jupyterlab:chip',
  description: 'Draws runs in the outputs of cells, and links cell and run.',
  autoStart: true,
  requires: [IRenderMimeRegistry, IModelyard, IContext],
  activate: (_, rendermime: IRenderMimeRegistry, model: YardModel, context: PanelContext) =>
    rendermime.addFactory(chipFactory(model, context))
};

const statusPlugin: JupyterFrontEndPlugin<void> = {
  id: '@modelyard/jupyterlab:status',
  description: 'Shows in the status bar what runs and what fires.',
  autoStart: true,
  requires: [IModelyard, IContext],
  optional: [IStatusBar], // Notebook 7 has none
  activate: (app: JupyterFrontEnd, model: YardModel, context: PanelContext, bar: IStatusBar | null) => {
    if (!bar) {
      return;
    }
    bar.registerStatusItem('@modelyard/jupyterlab:status', {
      item: statusWidget(model, context),
      align: 'left',
      rank: 90
    });
    // Once, so that it says something before the panel was ever opened.
    void app.restored.then(() => model.look());
  }
};

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  modelPlugin,
  sectionsPlugin,
  contextPlugin,
  panelPlugin,
  chipPlugin,
  statusPlugin
];

export default plugins;
