# One image for every role; ROLES decides what a node does. There is no build: Node runs the TypeScript as it stands.
#
#   docker build -t twinmesh .

# The same Node as in package.json (a test holds the two together).
FROM node:24.21.0-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No install scripts: nothing that was fetched runs while the image is made. The npm package `node` would only fetch the
# Node that the image has already.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && npm cache clean --force

FROM node:24.21.0-bookworm-slim
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
