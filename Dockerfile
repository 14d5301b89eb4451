# Images live in the volume /data, and so does the configuration of what to serve:
#   docker run --rm -v nbd-data:/data nbd-raid create data --level 1 --size 10G /data/a.img /data/b.img
#   docker run -p 127.0.0.1:10809:10809 -v nbd-data:/data nbd-raid serve --listen nbd://0.0.0.0:10809 /data/a.img /data/b.img
# Without arguments it serves what /data/nbd-raid.yaml says. NBD without TLS is for hosts that
# trust each other: publish the port accordingly.

FROM node:24-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
    NBD_RAID_CONTROL=/run/nbd-raid/control.sock
WORKDIR /opt/nbd-raid
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist dist
COPY package.json ./
COPY bin bin
RUN ln -s /opt/nbd-raid/bin/nbd-raid /usr/local/bin/nbd-raid \
    && install --directory --owner=node --group=node --mode=0700 /data /run/nbd-raid
USER node
VOLUME /data
EXPOSE 10809
# A degraded array (exit code 1) still serves; a restart would not mend it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD nbd-raid status --quiet || [ $? -eq 1 ]
ENTRYPOINT ["nbd-raid"]
CMD ["serve", "--listen", "nbd://0.0.0.0:10809", "--config", "/data/nbd-raid.yaml"]
