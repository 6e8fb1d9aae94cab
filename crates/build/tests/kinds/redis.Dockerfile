FROM alpine:3.22
RUN set -eux; addgroup -S -g 1000 redis; adduser -S -G redis -u 999 redis
ARG REDIS_URL=https://download.example/redis-8.2.tar.gz
ARG REDIS_SHA=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
ADD --checksum=sha256:${REDIS_SHA} ${REDIS_URL} /tmp/redis.tar.gz
RUN set -eux; \
	apk add --no-cache --virtual .build gcc make musl-dev linux-headers; \
	tar -xzf /tmp/redis.tar.gz -C /tmp; \
	make -C /tmp/redis-* -j "$(nproc)" install; \
	apk del .build; rm -r /tmp/redis*
RUN mkdir /data && chown redis:redis /data
VOLUME /data
WORKDIR /data
COPY --chmod=755 entry.sh /usr/local/bin/
ENTRYPOINT ["entry.sh"]
EXPOSE 6379
CMD ["redis-server"]
