# Training and serving as SageMaker runs an image: with the argument `train` or `serve`. Build from the repository's root:
#   docker build -f docker/training.Dockerfile -t estimator-serving-training .
#   docker build -f docker/sagemaker.Dockerfile -t estimator-serving-sagemaker .

FROM estimator-serving-training
# SageMaker mounts /opt/ml for root.
USER root
WORKDIR /opt/ml/code
COPY examples/xor/train.py train.py
ENV SAGEMAKER_PROGRAM=train.py
EXPOSE 8080
ENTRYPOINT ["estimator-serving", "sagemaker"]
