#!/usr/bin/env bash
# Builds helloworld, pushes it to the registry of the swarm, deploys it, and waits until it answers.
# Run it on a manager of the swarm, from any folder. BASE=IMAGE chooses another base image, WAIT=SECONDS another patience.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
image=127.0.0.1:5000/helloworld:v1
wait=${WAIT:-120}

docker build ${BASE:+--build-arg "BASE=$BASE"} --tag helloworld:v1 .
docker tag helloworld:v1 "$image"
docker push "$image"
docker stack deploy --compose-file stack.yml helloworld

echo "Waiting up to $wait seconds for four replicas ..."
end=$((SECONDS + wait))
until [ "$(docker service ls --filter name=helloworld_web --format '{{.Replicas}}')" = 4/4 ] \
  && curl --silent --fail --max-time 5 --output /dev/null http://127.0.0.1:8080/; do
  if [ "$SECONDS" -ge "$end" ]; then
    echo "helloworld does not answer after $wait seconds:" >&2
    docker stack ps --no-trunc helloworld >&2
    exit 1
  fi
  sleep 2
done

curl --silent --show-error --fail --max-time 5 http://127.0.0.1:8080/
