# One image for every role; ROLES decides what a node does. There is no build: Node runs the TypeScript as it stands.
#
#   docker build -t twinmesh .
#   docker build -t twinmesh-training --target training .     # the same and Python, for nodes that train models

# The same Node as in package.json (a test holds the two together).
FROM node:24.21.0-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No install scripts: nothing that was fetched runs while the image is made. The npm package `node` would only fetch the
# Node that the image has already.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && npm cache clean --force

# Python and what trainers import, as pinned. Wheels only: nothing that was fetched runs while the image is made.
FROM node:24.21.0-bookworm-slim AS python
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
COPY models/training/requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/training \
  && /opt/training/bin/python -m pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: -r /tmp/requirements.txt

FROM node:24.21.0-bookworm-slim AS program
ENV NODE_ENV=production
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json moleculer.config.ts ./
COPY config ./config
COPY actors ./actors
COPY mixins ./mixins
COPY models ./models
COPY services ./services
COPY deploy/images ./deploy/images
COPY deploy/postgres/grants.sql ./deploy/postgres/grants.sql
# What the program writes goes to /data; the rest of the image belongs to root and can be mounted read-only.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /opt/yarn* \
  && install -d -o node -g node -m 0700 /data
ENV DATA_DIR=/data
VOLUME /data
USER node
EXPOSE 8080 1883 9002 9100
STOPSIGNAL SIGTERM
# Compose and `docker run --init` put an init in front; Node alone would be PID 1 and would not reap.
CMD ["node", "services/main.ts"]

# LightGBM wants OpenMP of the system. The environment lies where it was made, beside the same Python.
FROM program AS training
USER root
RUN apt-get update && apt-get install -y --no-install-recommends python3 libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=python /opt/training /opt/training
# Rows that were made once are kept below HOME, which has to be where something can be written.
ENV TRAINING_PYTHON=/opt/training/bin/python HOME=/data
USER node

# Without --target: the image without Python.
FROM program
