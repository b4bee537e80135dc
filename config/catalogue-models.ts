import { choice, decimal, integer, text, url } from './setting.ts';

/** Settings of inference, training and the life of models. */
export const MODELS = {
  MODELS_DIR: text(
    'a folder',
    /^[^\0]+$/,
    'models',
    null,
    'Folder of further models, <name>/<version>/{model.onnx, card.json}, beside those that come with twinmesh; trained ones are put there. Left out, models in DATA_DIR. All nodes with the role inference need the same: a shared folder, or S3_ENDPOINT for what is trained.',
  ),
  INFERENCE_MAX_PER_SECOND: integer(
    'predictions',
    0,
    1_000_000,
    'models',
    5_000,
    'Predictions a second that the twins of one node ask for at most; above it twins are asked about less often than their kind says, oldest answer first. Keeps processor for telemetry. 0: no model is asked.',
  ),
  INFERENCE_DEADLINE_MS: integer(
    'ms',
    10,
    60_000,
    'models',
    2_000,
    'An answer that takes longer is given up; five in a row, and nobody is asked for a minute.',
  ),
  MODEL_PROMOTION: choice(
    ['manual', 'better'],
    'models',
    'manual',
    'What becomes of a trained candidate: manual = it waits for POST /api/v1/models/{name}/promote; better = it goes live where it beats the live version on the held-out set.',
  ),
  TRAINING_SCHEDULE: text(
    'a cron expression of five fields, UTC',
    /^[0-9*,/ A-Za-z-]{9,100}$/,
    'models',
    null,
    'When all models are trained anew. Left out, only when asked, or by drift. Needs a node that can train: Python 3.11 or newer, or TRAINING_PYTHON.',
  ),
  TRAINING_ON_DRIFT: choice(
    ['off', 'on'],
    'models',
    'off',
    'Whether drift above DRIFT_THRESHOLD starts training, once a day and model at most.',
  ),
  DRIFT_THRESHOLD: decimal(
    'PSI',
    0.01,
    10,
    'models',
    0.2,
    'Population stability index of a model input above which its drift is told: as an event (data-drift), in the log, and to training. 0.1 is commonly read as some, 0.25 as much.',
  ),
  TRAINING_PYTHON: text(
    'a file',
    /^[^\0]+$/,
    'models',
    null,
    'Python interpreter of an environment that has the packages of models/training/requirements.txt in exactly those versions. Left out, one is made from the Python on the PATH at the first training. A node that has neither leaves jobs to those that have.',
  ),
  WORK_RETENTION_DAYS: integer(
    'days',
    0,
    36_500,
    'models',
    90,
    'Jobs of training, with their runs that MLflow has or has not taken, and rescorings are deleted so long after their end. 0 keeps them.',
  ),
  MLFLOW_URL: url(
    ['http:', 'https:'],
    'models',
    null,
    'MLflow tracking server that gets runs, parameters, scores and artifacts of training. While it is away they wait.',
  ),
} as const;
