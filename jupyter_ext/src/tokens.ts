import { Token } from '@lumino/coreutils';

import { YardModel } from './model/yard';
import { Sections } from './sections';

/** What the panel knows about the project; other extensions may read it and listen to it. */
export const IModelyard = new Token<IModelyard>(
  '@modelyard/jupyterlab:IModelyard',
  'The project that the Modelyard panel shows: runs, data, models, endpoints, drift.'
);
export type IModelyard = YardModel;

/** Where other extensions add a section to the panel. */
export const ISections = new Token<ISections>(
  '@modelyard/jupyterlab:ISections',
  'The sections of the Modelyard panel; `add` one of your own.'
);
export type ISections = Sections;
