import { ReactWidget } from '@jupyterlab/apputils';
import { ITranslator } from '@jupyterlab/translation';
import { SidePanel } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { AccordionPanel } from '@lumino/widgets';

import { h } from '../components/h';
import { Surroundings } from '../components/hooks';
import { Gate, Notice, ProjectChoice, RefreshButton } from '../components/notice';
import { yardIcon } from '../icons';
import { Remembered } from '../model/memory';
import { Loaded } from '../model/section';
import { YardModel } from '../model/yard';
import { PanelContext, SectionPart, Sections } from '../sections';

export const PANEL_ID = 'modelyard-panel';

/** The panel in the left area. What can't be seen asks nothing. */
export class YardPanel extends SidePanel {
  constructor(
    private readonly _model: YardModel,
    private readonly _context: PanelContext,
    private readonly _sections: Sections,
    translator: ITranslator
  ) {
    super({ translator });
    const { trans } = _context;
    this.id = PANEL_ID;
    this.addClass('modelyard-Panel');
    this.title.icon = yardIcon;
    this.title.caption = trans.__('Modelyard: runs, data, models, endpoints, drift');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Modelyard');
    this.toolbar.addItem(
      'project',
      this._inContext(<ProjectChoice model={_model} />, 'modelyard-ToolbarItem')
    );
    this.toolbar.addItem('refresh', this._inContext(<RefreshButton />, 'modelyard-ToolbarItem-fixed'));
    this.header.addWidget(this._inContext(<Notice model={_model} />, 'modelyard-Notice'));
    this._accordion.expansionToggled.connect((_, index) => this._remember(index));
    _sections.changed.connect(() => this._fill());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.isVisible) {
        void _model.look();
      }
    });
    this._fill();
  }

  /** Names of sections that are not shown. */
  set hiddenSections(names: readonly string[]) {
    this._hidden = new Set(names);
    this._fill();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._model.visible = true;
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this._model.visible = false;
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._model.visible = this.isVisible;
  }

  protected onBeforeDetach(message: Message): void {
    this._model.visible = false;
    super.onBeforeDetach(message);
  }

  private get _accordion(): AccordionPanel {
    return this.content as AccordionPanel;
  }

  /** Draw the sections that are there and not hidden; those that stay keep their widgets. */
  private _fill(): void {
    const wanted = this._sections.all.filter(part => !this._hidden.has(part.name));
    for (const widget of [...this._accordion.widgets] as SectionWidget[]) {
      if (!wanted.includes(widget.part)) {
        widget.dispose();
      }
    }
    wanted.forEach((part, index) => {
      const there = (this._accordion.widgets as SectionWidget[])[index];
      if (there?.part !== part) {
        this.insertWidget(index, new SectionWidget(part, this._model, this._context));
      }
    });
    this._filling = true;
    wanted.forEach((part, index) => {
      if (this._open.value[part.name] ?? !part.collapsed) {
        this._accordion.expand(index);
      } else {
        this._accordion.collapse(index);
      }
    });
    this._filling = false;
    this._accordion.setRelativeSizes(wanted.map(part => (part.name === 'runs' ? 2 : 1)));
  }

  private _remember(index: number): void {
    if (!this._filling) {
      const widget = this._accordion.widgets[index] as SectionWidget;
      this._open.value = { ...this._open.value, [widget.part.name]: !widget.isHidden };
    }
  }

  private _inContext(element: JSX.Element, className: string): ReactWidget {
    const widget = ReactWidget.create(
      <Surroundings.Provider value={this._context}>{element}</Surroundings.Provider>
    );
    widget.addClass(className);
    return widget;
  }

  private readonly _open = new Remembered<Record<string, boolean>>(localStorage, 'modelyard:open', {});
  private _hidden: ReadonlySet<string> = new Set();
  private _filling = false;
}

/** One section; its data are loaded while it is open and in sight. */
class SectionWidget extends ReactWidget {
  constructor(
    readonly part: SectionPart,
    private readonly _model: YardModel,
    private readonly _context: PanelContext
  ) {
    super();
    this.addClass('modelyard-SectionWidget');
    this.id = `modelyard-section-${part.name}`;
    this.title.label = _context.trans.__(part.title);
    this.node.dataset.section = part.name;
  }

  protected render(): JSX.Element {
    return (
      <Surroundings.Provider value={this._context}>
        <Gate model={this._model}>{this.part.render(this._model, this._context)}</Gate>
      </Surroundings.Provider>
    );
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._activate(this.isVisible);
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._activate(true);
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this._activate(false);
  }

  protected onBeforeDetach(message: Message): void {
    this._activate(false);
    super.onBeforeDetach(message);
  }

  private _activate(active: boolean): void {
    const section = (this._model as unknown as Record<string, unknown>)[this.part.name];
    // The status bar shows the overview too, so that it is loaded whether its section is open or not.
    if (section instanceof Loaded && this.part.name !== 'overview') {
      section.active = active;
    }
  }
}
