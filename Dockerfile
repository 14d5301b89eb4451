# The server and its command line (docs/how-to/docker.md). Without arguments it serves what is in
# the volume /data; arguments are those of nbd-raid:
#   docker run -e NBD_RAID_CREATE="data --level 1 --size 10G a.img b.img" -v nbd-data:/data \
#     -p 127.0.0.1:10809:10809 --name nbd-raid nbd-raid
#   docker exec nbd-raid nbd-raid status
# NBD without TLS is for hosts that trust each other: publish the port accordingly.

FROM node:26-trixie-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build && npm prune --omit=dev --ignore-scripts --no-audit --no-fund
# What no program reads: types and sources (Node runs no TypeScript in node_modules), maps, C++
# sources, and packages' own tests and documents. Licences stay.
RUN find node_modules dist -type f ! -iname 'licen[cs]e*' \( -name '*.ts' -o -name '*.mts' \
        -o -name '*.cts' -o -name '*.map' -o -name '*.md' -o -name '*.cc' -o -name '*.hh' \
        -o -name '*.h' \) -delete \
    && for own in test tests bench benchmark benchmarks doc docs example examples .github; do \
        rm -rf node_modules/*/$own node_modules/@*/*/$own; \
    done \
    && find node_modules -type d -empty -delete

FROM node:26-trixie-slim
LABEL org.opencontainers.image.title="nbd-raid" \
      org.opencontainers.image.description="An NBD server with redundancy: RAID arrays of image files in Linux md's own format" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/node:26-trixie-slim"
# The control socket is where a container may write even if its root file system is read-only.
ENV NODE_ENV=production \
    NBD_RAID_LISTEN=nbd://0.0.0.0:10809 \
    NBD_RAID_CONTROL=/dev/shm/nbd-raid/control.sock
COPY --from=build /build/node_modules /opt/nbd-raid/node_modules
COPY --from=build /build/dist /opt/nbd-raid/dist
COPY package.json /opt/nbd-raid/
COPY bin /opt/nbd-raid/bin
RUN ln -s /opt/nbd-raid/bin/nbd-raid /usr/local/bin/nbd-raid \
    && install --directory --owner=node --group=node --mode=0700 /data
USER node
VOLUME /data
WORKDIR /data
EXPOSE 10809
# A degraded array (exit code 1) still serves; a restart would not mend it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD nbd-raid status --quiet || [ $? -eq 1 ]
ENTRYPOINT ["nbd-raid"]
CMD ["serve", "--directory", "/data"]
