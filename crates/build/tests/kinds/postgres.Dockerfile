FROM debian:bookworm-slim
RUN set -eux; \
	groupadd -r postgres --gid=999; \
# numbers that stay
	useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres; \
	install --verbose --directory --owner postgres --group postgres --mode 1777 /var/lib/postgresql

ENV GOSU_VERSION 1.17
ENV LANG en_US.utf8
RUN mkdir /docker-entrypoint-initdb.d
ENV PG_MAJOR 17
ENV PATH $PATH:/usr/lib/postgresql/$PG_MAJOR/bin
RUN set -ex; \
	\
	case "$(dpkg --print-architecture)" in \
		amd64 | arm64) apt-get update ;; \
		*) echo "built from source elsewhere" ;; \
	esac; \
	apt-get install -y --no-install-recommends "postgresql-$PG_MAJOR"; \
	postgres --version
ENV PGDATA /var/lib/postgresql/data
RUN install --directory --owner postgres --group postgres --mode 1777 "$PGDATA"
VOLUME /var/lib/postgresql/data
COPY entry.sh ensure-initdb.sh /usr/local/bin/
RUN ln -sT ensure-initdb.sh /usr/local/bin/enforce-initdb.sh
ENTRYPOINT ["entry.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
