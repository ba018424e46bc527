# Both programs and the few shared libraries they load, built and laid out by deploy/testnet.sh:
# no base image, no registry, no shell.
FROM scratch
LABEL org.quicprochat.image=testnet
COPY target/testnet/image/root /
# An empty /data that its user owns; new volumes take over owner and rights.
COPY --chown=65532:65532 target/testnet/image/owned /
USER 65532:65532
ENTRYPOINT ["/bin/qpc-server"]
