"""TensorFlow's names that are not here, and what takes their place: one table, for errors and for the documentation.

A row is a module below `tf`, names in it, and what to use, or why nothing is needed. `namespaces` raises it as an
AttributeError; docs/how-to/migrate.md shows it. Plain data that imports nothing: the documentation reads it without
torch.
"""

from __future__ import annotations

COLUMNS = "a column, which the servable computes as well"
_MODULE = "training.module(name, factory) with the torch module"
_QUEUE = "a Dataset: queues and their threads are gone"
_SESSION = "an Estimator and its hooks: there is no session"
_CHECKPOINT = "the checkpoints that the estimator writes and restores; training.load_checkpoint reads one"
_OWN_STEP = "optimizer.compute_gradients and apply_gradients, or a subclass of optimizers.Optimizer"
_EVENTS = "training.summaries.EventWriter; in a model_fn, summary.scalar and its siblings write by themselves"
_FILES = "open(), pathlib and shutil"
_DECODE = "PIL, numpy or the standard library in a Dataset's map"
_SPARSE = "padded arrays, with -1 or '' for nothing"
_DATASET = "Dataset.from_generator with Python's own tools"
_ESTIMATOR_TRAINS = "estimator.train, which owns the loop"
_TPU = "Estimator and RunConfig: there are no TPUs"
_LOGIT = "layers of your own in a model_fn, and head.create_estimator_spec"
_KERAS = (
    "keras itself, and training.model_to_estimator; training.optimizers for keras.optimizers, training.regularizers "
    "for keras.regularizers, training.feature_column.sequence_input_layer for keras.experimental.SequenceFeatures"
)
_STRATEGY = "RunConfig(train_distribute=distribute.MultiWorkerMirroredStrategy())"

ROWS: tuple[tuple[str, str, str], ...] = (
    # -- tf.estimator --------------------
    ("estimator.experimental", "LinearSDCA", "LinearClassifier or LinearRegressor with the default optimizer, Ftrl"),
    ("estimator.experimental", "call_logit_fn", "a call of your logit_fn"),
    ("estimator.experimental", "dnn_logit_fn_builder linear_logit_fn_builder", _LOGIT),
    ("estimator.export", "EvalOutput", "estimator.experimental_export_all_saved_models with ModeKeys.EVAL"),
    ("estimator.tpu", "InputPipelineConfig RunConfig TPUConfig TPUEstimator TPUEstimatorSpec", _TPU),
    ("estimator.tpu.experimental", "EmbeddingConfigSpec", _TPU),
    # -- tf.data --------------------
    ("data", "FixedLengthRecordDataset", _DATASET),
    ("data", "INFINITE_CARDINALITY UNKNOWN_CARDINALITY", "nothing: a Dataset does not count its rows"),
    (
        "data",
        "DatasetSpec Iterator NumpyIterator get_output_classes get_output_shapes get_output_types "
        "make_initializable_iterator make_one_shot_iterator",
        "the Dataset itself: an input_fn returns it, and `for batch in dataset` reads it",
    ),
    ("data", "Options ThreadingOptions", "nothing: the order of rows is always the same, and prefetch has a thread"),
    (
        "data.Dataset",
        "make_one_shot_iterator make_initializable_iterator as_numpy_iterator",
        "the Dataset itself: an input_fn returns it, and `for batch in dataset` reads it",
    ),
    ("data.Dataset", "with_options options", "nothing: the order of rows is always the same"),
    (
        "data.Dataset",
        "zip concatenate window group_by_window bucket_by_sequence_length range enumerate reduce scan "
        "unbatch sample_from_datasets choose_from_datasets",
        _DATASET,
    ),
    (
        "data.experimental",
        "AutoShardPolicy AutotuneAlgorithm AutotuneOptions DistributeOptions ExternalStatePolicy "
        "OptimizationOptions SHARD_HINT ThreadingOptions enable_debug_mode",
        "nothing: the order of rows is always the same. Dataset.shard takes an input_context's numbers",
    ),
    (
        "data.experimental",
        "CheckpointInputPipelineHook make_saveable_from_iterator",
        "RunConfig(resume_input=True), which skips the batches that earlier calls took",
    ),
    ("data.experimental", "CsvDataset", "Dataset.from_csv, make_csv_dataset, or TextLineDataset with decode_csv"),
    ("data.experimental", "parse_example_dataset", "dataset.map(lambda records: io.parse_example(records, spec))"),
    ("data.experimental", "parallel_interleave", "dataset.interleave"),
    ("data.experimental", "SqlDataset", "Dataset.from_batches with pandas.read_sql(…, chunksize=…)"),
    ("data.experimental", "TFRecordWriter", "io.TFRecordWriter"),
    ("data.experimental", "index_table_from_dataset table_from_dataset", "lookup.index_table_from_tensor"),
    ("data.experimental", "dense_to_ragged_batch dense_to_sparse_batch", "dataset.padded_batch"),
    ("data.experimental", "ignore_errors", "nothing: a row that does not fit is refused with its file and number"),
    ("data.experimental", "map_and_batch_with_legacy_function", "map_and_batch"),
    ("data.experimental", "copy_to_device prefetch_to_device", "dataset.prefetch"),
    ("data.experimental", "snapshot", "dataset.cache"),
    (
        "data.experimental",
        "Counter RandomDataset Reducer assert_cardinality bucket_by_sequence_length cardinality "
        "choose_from_datasets enumerate_dataset from_list group_by_reducer group_by_window "
        "pad_to_cardinality rejection_resample sample_from_datasets scan take_while unbatch unique",
        _DATASET,
    ),
    (
        "data.experimental",
        "DatasetInitializer DatasetStructure INFINITE_CARDINALITY Optional OptionalStructure "
        "RaggedTensorStructure SparseTensorStructure Structure TensorArrayStructure TensorStructure "
        "UNKNOWN_CARDINALITY from_variant get_next_as_optional get_single_element get_structure to_variant",
        "Python: `for batch in dataset` gives dicts of arrays",
    ),
    (
        "data.experimental.service",
        "CrossTrainerCache DispatcherConfig ShardingPolicy WorkerConfig distribute from_dataset_id register_dataset",
        "Dataset.shard with the input_context of each process",
    ),
    # -- tf.io --------------------
    ("io", "PaddingFIFOQueue PriorityQueue QueueBase RandomShuffleQueue", _QUEUE),
    (
        "io",
        "TFRecordCompressionType TFRecordOptions",
        'compression_type="GZIP" of TFRecordDataset and TFRecordWriter',
    ),
    (
        "io",
        "decode_and_crop_jpeg decode_base64 decode_bmp decode_compressed decode_gif decode_image "
        "decode_jpeg decode_png decode_raw encode_base64 encode_jpeg encode_png extract_jpeg_shape is_jpeg",
        _DECODE,
    ),
    ("io", "decode_json_example", "wire.examples.encode_example"),
    ("io", "decode_proto encode_proto parse_tensor serialize_tensor", "protobuf or numpy in a Dataset's map"),
    ("io", "deserialize_many_sparse serialize_many_sparse serialize_sparse", _SPARSE),
    ("io", "match_filenames_once matching_files", "Dataset.list_files, or glob.glob"),
    ("io", "parse_sequence_example parse_single_sequence_example", "Examples with VarLenFeature and sequence columns"),
    ("io", "read_file write_file", _FILES),
    ("io", "write_graph", "estimator.export_saved_model, which writes an ONNX file"),
    (
        "io.gfile",
        "GFile copy exists get_registered_schemes glob isdir join listdir makedirs mkdir remove rename "
        "rmtree stat walk",
        _FILES,
    ),
    (
        "gfile",
        "GFile Open FastGFile Exists Glob ListDirectory MakeDirs MkDir IsDirectory Remove DeleteRecursively "
        "Copy Rename Stat Walk",
        _FILES,
    ),
    # -- tf.layers, tf.losses, tf.initializers --------------------
    (
        "layers",
        "AveragePooling3D Conv2DTranspose Conv3D Conv3DTranspose MaxPooling3D SeparableConv1D "
        "SeparableConv2D average_pooling3d conv2d_transpose conv3d conv3d_transpose max_pooling3d "
        "separable_conv1d separable_conv2d",
        _MODULE,
    ),
    ("layers", "InputSpec", "nothing: a layer says which shapes it takes"),
    ("layers.experimental", "keras_style_scope set_keras_style", "training.variable_scope"),
    ("losses", "add_loss get_losses get_total_loss", "a sum: add the losses up, with get_regularization_loss()"),
    (
        "initializers",
        "global_variables local_variables tables_initializer variables",
        "nothing: the estimator gives variables their first values",
    ),
    ("initializers", "identity uniform_unit_scaling", "variance_scaling, or a function of a shape and a generator"),
    ("lookup.experimental", "DenseHashTable MutableHashTable", "lookup.StaticHashTable, or a dict in a Dataset's map"),
    ("nn.rnn_cell", "DeviceWrapper ResidualWrapper", _MODULE),
    # -- tf.summary --------------------
    ("summary", "FileWriter FileWriterCache Event SessionLog Summary SummaryDescription TaggedRunMetadata", _EVENTS),
    ("summary", "all_v2_summary_ops get_summary_description initialize tensor_summary", _EVENTS),
    ("summary", "merge merge_all", "nothing: a hook writes what summary.scalar and its siblings report"),
    ("summary", "audio", "summary.image, or summaries.EventWriter"),
    # -- tf.train --------------------
    ("train", "AdadeltaOptimizer", "optimizers.Adadelta(learning_rate, rho, epsilon=1e-8)"),
    ("train", "AdagradDAOptimizer ProximalAdagradOptimizer ProximalGradientDescentOptimizer", "train.FtrlOptimizer"),
    ("train", "SyncReplicasOptimizer replica_device_setter", _STRATEGY),
    ("train", "ExponentialMovingAverage", "a hook that averages get_variable's values, or batch_normalization's own"),
    (
        "train",
        "Checkpoint CheckpointManager CheckpointOptions Saver SaverDef checkpoint_exists "
        "checkpoints_iterator export_meta_graph generate_checkpoint_state_proto get_checkpoint_mtimes "
        "get_checkpoint_state import_meta_graph remove_checkpoint update_checkpoint_state",
        _CHECKPOINT,
    ),
    ("train", "init_from_checkpoint warm_start", "the estimator's warm_start_from"),
    (
        "train",
        "ChiefSessionCreator MonitoredSession MonitoredTrainingSession Scaffold SessionCreator "
        "SessionManager SingularMonitoredSession Supervisor WorkerSessionCreator",
        _SESSION,
    ),
    (
        "train",
        "ClusterDef ClusterSpec JobDef Server ServerDef",
        "TF_CONFIG or torchrun; RunConfig reads them, and there is no server to start",
    ),
    (
        "train",
        "Coordinator LooperThread QueueRunner add_queue_runner batch batch_join input_producer limit_epochs "
        "maybe_batch maybe_batch_join maybe_shuffle_batch maybe_shuffle_batch_join range_input_producer "
        "shuffle_batch shuffle_batch_join slice_input_producer start_queue_runners string_input_producer",
        _QUEUE,
    ),
    ("train", "match_filenames_once", "Dataset.list_files, or glob.glob"),
    ("train", "assert_global_step create_global_step global_step", "train.get_or_create_global_step()"),
    ("train", "basic_train_loop", _ESTIMATOR_TRAINS),
    ("train", "noisy_linear_cosine_decay", "train.linear_cosine_decay, or a function of the step"),
    ("train", "sdca_fprint sdca_optimizer sdca_shrink_l1", "LinearClassifier with Ftrl"),
    ("train", "summary_iterator", "tensorboard.backend.event_processing.event_file_loader.EventFileLoader"),
    (
        "train",
        "write_graph do_quantize_training_on_graphdef",
        "estimator.export_saved_model, which writes an ONNX file",
    ),
    ("train.queue_runner", "QueueRunner add_queue_runner start_queue_runners", _QUEUE),
    (
        "train.experimental",
        "DynamicLossScale FixedLossScale LossScale MixedPrecisionLossScaleOptimizer PythonState "
        "disable_mixed_precision_graph_rewrite enable_mixed_precision_graph_rewrite",
        "nothing: training is in float32",
    ),
    # -- tf.contrib, by what Estimator programs use of it --------------------
    ("contrib.layers", "real_valued_column", "feature_column.numeric_column"),
    ("contrib.layers", "sparse_column_with_hash_bucket", "feature_column.categorical_column_with_hash_bucket"),
    ("contrib.layers", "sparse_column_with_integerized_feature", "feature_column.categorical_column_with_identity"),
    ("contrib.layers", "sparse_column_with_keys", "feature_column.categorical_column_with_vocabulary_list"),
    ("contrib.layers", "sparse_column_with_vocabulary_file", "feature_column.categorical_column_with_vocabulary_file"),
    ("contrib.layers", "weighted_sparse_column", "feature_column.weighted_categorical_column"),
    ("contrib.layers", "one_hot_column", "feature_column.indicator_column"),
    ("contrib.layers", "embedding_column bucketized_column crossed_column", "the same name of feature_column"),
    ("contrib.layers", "shared_embedding_columns", "feature_column.shared_embedding_columns"),
    ("contrib.layers", "scattered_embedding_column", "feature_column.embedding_column of a hash bucket"),
    (
        "contrib.layers",
        "create_feature_spec_for_parsing parse_feature_columns_from_examples",
        "feature_column.make_parse_example_spec",
    ),
    ("contrib.layers", "input_from_feature_columns sequence_input_from_feature_columns", "feature_column.input_layer"),
    ("contrib.layers", "weighted_sum_from_feature_columns", "feature_column.linear_model"),
    ("contrib.layers", "joint_weighted_sum_from_feature_columns", "feature_column.linear_model"),
    ("contrib.layers", "batch_norm", "layers.batch_normalization"),
    ("contrib.layers", "conv2d convolution convolution2d", "layers.conv2d"),
    ("contrib.layers", "max_pool2d", "layers.max_pooling2d"),
    ("contrib.layers", "avg_pool2d", "layers.average_pooling2d"),
    ("contrib.layers", "linear relu", "fully_connected with its activation_fn"),
    ("contrib.layers", "layer_norm separable_conv2d conv2d_transpose", _MODULE),
    ("contrib.layers", "one_hot_encoding", "torch.nn.functional.one_hot"),
    ("contrib.layers", "apply_regularization summarize_layers", "losses.get_regularization_loss()"),
    ("contrib.learn", "Experiment learn_runner", "training.train_and_evaluate with TrainSpec and EvalSpec"),
    ("contrib.learn", "RunConfig ModeKeys Estimator", "the same name of training"),
    (
        "contrib.learn",
        "DNNClassifier DNNRegressor DNNLinearCombinedClassifier DNNLinearCombinedRegressor LinearClassifier "
        "LinearRegressor",
        "the same name of training; labels and features come from an input_fn",
    ),
    ("contrib.learn", "ModelFnOps", "training.EstimatorSpec"),
    ("contrib.learn", "InputFnOps", "training.export.ServingInputReceiver"),
    ("contrib.learn", "MetricSpec", "training.add_metrics"),
    ("contrib.learn", "PredictionKey PredictionType ProblemType", "the names of predictions, such as 'probabilities'"),
    ("contrib.learn", "build_parsing_serving_input_fn", "export.build_parsing_serving_input_receiver_fn"),
    ("contrib.learn", "make_export_strategy", "training.LatestExporter or FinalExporter in an EvalSpec"),
    ("contrib.learn", "monitors", "hooks"),
    ("contrib.learn", "SVM", "LinearClassifier, or scikit-learn's LinearSVC with exporter.export_model"),
    ("contrib.learn", "KMeansClustering", "contrib.factorization.KMeansClustering"),
    ("contrib.learn", "preprocessing", "training.lookup, or text handled in a Dataset's map"),
    ("contrib.learn", "read_batch_examples read_batch_features read_keyed_batch_examples", _QUEUE),
    ("contrib.learn", "datasets", "scikit-learn's or torchvision's data sets"),
    ("contrib.estimator", "SavedModelEstimator", "estimator-serving import, which makes a servable of a SavedModel"),
    ("contrib.estimator", "TowerOptimizer replicate_model_fn", _STRATEGY),
    ("contrib.estimator", "clip_gradients_by_norm", "the optimizer's own clipnorm, or compute_gradients"),
    (
        "contrib.estimator",
        "boosted_trees_classifier_train_in_memory boosted_trees_regressor_train_in_memory",
        "training.BoostedTreesClassifier and estimator.train",
    ),
    (
        "contrib.predictor",
        "from_saved_model from_contrib_estimator",
        "`estimator-serving run`, or serving.in_process with the servable",
    ),
    ("contrib.training", "bucket_by_sequence_length stratified_sample rejection_sample", _DATASET),
    ("contrib.training", "create_train_op train", _OWN_STEP),
    ("contrib.training", "batch_sequences_with_states SequenceQueueingStateSaver", _QUEUE),
    ("contrib.lookup", "HashTable", "lookup.StaticHashTable"),
    ("contrib.lookup", "MutableHashTable", "lookup.StaticHashTable, or a dict in a Dataset's map"),
    ("contrib.lookup", "string_to_index_table_from_file", "lookup.index_table_from_file"),
    (
        "contrib.metrics",
        "streaming_accuracy streaming_auc streaming_mean streaming_precision streaming_recall "
        "streaming_mean_squared_error streaming_root_mean_squared_error streaming_mean_absolute_error "
        "streaming_concat f1_score precision_recall_at_equal_thresholds",
        "training.metrics, with labels before predictions",
    ),
    (
        "contrib.rnn",
        "LSTMBlockCell LSTMBlockFusedCell LayerNormBasicLSTMCell GRUBlockCell CoupledInputForgetGateLSTMCell",
        "BasicLSTMCell or GRUCell, or training.module(name, factory) with the torch module",
    ),
    ("contrib.rnn", "static_rnn static_bidirectional_rnn stack_bidirectional_dynamic_rnn", "nn.dynamic_rnn"),
    ("contrib.data", "unbatch group_by_window bucket_by_sequence_length rejection_resample", _DATASET),
    ("contrib.data", "sliding_window_batch Counter", _DATASET),
    ("contrib.factorization", "WALSMatrixFactorization GMM", "a model_fn, or scikit-learn with exporter.export_model"),
    ("contrib.seq2seq", "sequence_loss", "losses.compute_weighted_loss with a mask as weights"),
    ("contrib.seq2seq", "BasicDecoder dynamic_decode TrainingHelper GreedyEmbeddingHelper BahdanauAttention", _MODULE),
    ("contrib.framework", "arg_scope", "functools.partial"),
    ("contrib.framework", "assign_from_checkpoint_fn init_from_checkpoint", "the estimator's warm_start_from"),
    ("contrib.framework", "get_variables_to_restore get_model_variables", "the estimator's get_variable_names()"),
    ("contrib.summary", "scalar histogram image create_file_writer always_record_summaries", "training.summary"),
    ("contrib.distribute", "OneDeviceStrategy CollectiveAllReduceStrategy", _STRATEGY),
    ("contrib.tpu", "TPUEstimator TPUEstimatorSpec RunConfig TPUConfig CrossShardOptimizer", _TPU),
    ("contrib.cluster_resolver", "TPUClusterResolver TFConfigClusterResolver", "TF_CONFIG, which RunConfig reads"),
    ("contrib.opt", "LazyAdamOptimizer AdamWOptimizer AdaMaxOptimizer NadamOptimizer", "training.optimizers"),
    ("contrib.crf", "crf_log_likelihood crf_decode", _MODULE),
    ("contrib.slim", "fully_connected conv2d arg_scope l2_regularizer", "training.layers and training.regularizers"),
    # -- tf itself --------------------
    ("", "Session InteractiveSession ConfigProto GPUOptions Graph get_default_graph reset_default_graph", _SESSION),
    (
        "",
        "placeholder placeholder_with_default",
        "the features that model_fn gets; receivers describe a servable's inputs",
    ),
    (
        "",
        "global_variables_initializer local_variables_initializer tables_initializer",
        "nothing: the estimator gives variables their first values",
    ),
    ("", "Variable", "training.get_variable"),
    ("", "name_scope", "training.variable_scope, or nothing"),
    (
        "",
        "get_collection add_to_collection GraphKeys control_dependencies",
        "nothing: moving averages follow each step, and get_regularization_losses() has the losses",
    ),
    ("", "gradients", "optimizer.compute_gradients, or torch.autograd.grad"),
    ("", "stop_gradient", "tensor.detach()"),
    ("", "constant convert_to_tensor", "torch.tensor(values)"),
    ("", "cast to_float to_int32 to_int64", "tensor.to(dtype), tensor.float() or tensor.long()"),
    ("", "reshape transpose expand_dims squeeze tile", "the tensor's reshape, permute, unsqueeze, squeeze and repeat"),
    ("", "concat", "torch.cat(tensors, dim)"),
    ("", "stack unstack split", "torch.stack, tensor.unbind and torch.split"),
    (
        "",
        "reduce_mean reduce_sum reduce_max reduce_min reduce_prod reduce_all reduce_any",
        "the tensor's mean, sum, amax, amin, prod, all and any, with dim for the axis",
    ),
    ("", "reduce_logsumexp", "torch.logsumexp(x, dim)"),
    ("", "argmax argmin", "tensor.argmax(dim)"),
    ("", "matmul", "a @ b"),
    (
        "",
        "add add_n subtract multiply divide pow square sqrt exp log abs maximum minimum sign round floor ceil",
        "the operators and functions of torch, such as torch.exp(x)",
    ),
    (
        "",
        "equal not_equal greater greater_equal less less_equal logical_and logical_or logical_not",
        "the operators of tensors: ==, >, &, ~",
    ),
    ("", "where cond", "torch.where(condition, a, b), or Python's if outside the network"),
    ("", "sigmoid tanh", "torch.sigmoid and torch.tanh"),
    ("", "one_hot", "torch.nn.functional.one_hot(ids, depth).float()"),
    ("", "gather gather_nd", "table[ids], or torch.gather"),
    (
        "",
        "zeros ones zeros_like ones_like fill range shape rank size",
        "torch's functions of these names; tensor.shape",
    ),
    (
        "",
        "random_normal random_uniform truncated_normal random_shuffle set_random_seed",
        "torch.randn and torch.rand; RunConfig(tf_random_seed=…) fixes them",
    ),
    ("", "identity no_op group tuple", "Python: an eager model_fn needs none; optimizers.group joins train ops"),
    ("", "assign assign_add", "a hook, or tensor.copy_(…) under torch.no_grad()"),
    ("", "while_loop map_fn scan", "Python's for"),
    ("", "py_func py_function numpy_function", "a call of the function in a Dataset's map"),
    (
        "",
        "string_split string_join strings regex_replace string_to_number string_to_hash_bucket_fast",
        "Python's text functions in a Dataset's map, or a column, which the servable computes as well",
    ),
    ("", "SparseTensor sparse_tensor_to_dense sparse_to_dense sparse_placeholder", _SPARSE),
    ("", "decode_raw decode_image read_file", _DECODE),
    ("", "assert_equal assert_rank Print Assert", "Python's assert and print"),
    ("", "sequence_mask", "torch.arange(steps) < lengths.unsqueeze(1)"),
    ("", "confusion_matrix", "metrics.confusion_matrix"),
    ("", "keras", _KERAS),
    ("", "saved_model", "estimator.export_saved_model; `estimator-serving import` reads SavedModels"),
    ("", "python_io", "training.io"),
    ("", "app flags", "absl.app and absl.flags, or argparse"),
    ("", "test", "pytest"),
    ("", "device", "nothing: training is on the CPU, and serving takes --device=cuda"),
    (
        "",
        "enable_eager_execution disable_eager_execution disable_v2_behavior enable_v2_behavior",
        "nothing: a model_fn is called eagerly",
    ),
    (
        "nn",
        "sigmoid_cross_entropy_with_logits",
        'losses.sigmoid_cross_entropy, or torch.nn.functional.binary_cross_entropy_with_logits(…, reduction="none")',
    ),
    (
        "nn",
        "softmax_cross_entropy_with_logits softmax_cross_entropy_with_logits_v2 "
        "sparse_softmax_cross_entropy_with_logits",
        'losses.sparse_softmax_cross_entropy, or torch.nn.functional.cross_entropy(…, reduction="none")',
    ),
    ("nn", "embedding_lookup embedding_lookup_sparse", "layers.embedding, table[ids], or an embedding_column"),
    ("nn", "l2_loss", "x.square().sum() / 2"),
    ("nn", "l2_normalize", "torch.nn.functional.normalize(x, dim=dim)"),
    ("nn", "moments", "torch.var_mean(x, dim, correction=0)"),
    ("nn", "dropout", "layers.dropout(x, rate, training=True)"),
    ("nn", "bias_add xw_plus_b relu_layer", "x @ kernel + bias"),
    ("nn", "conv1d conv2d max_pool avg_pool", "layers.conv1d, conv2d, max_pooling2d and average_pooling2d"),
    ("nn", "top_k in_top_k", "torch.topk"),
    ("nn", "batch_normalization fused_batch_norm", "layers.batch_normalization"),
    ("nn", "static_rnn raw_rnn", "nn.dynamic_rnn"),
    ("nn", "nce_loss sampled_softmax_loss", "losses.sparse_softmax_cross_entropy over all classes"),
    ("nn", "zero_fraction", "(x == 0).float().mean()"),
)

REPLACEMENTS: dict[str, dict[str, str]] = {}
"""The same by module and name."""
for _module, _names, _instead in ROWS:
    REPLACEMENTS.setdefault(_module, {}).update(dict.fromkeys(_names.split(), _instead))


def sentence(module: str, name: str) -> str | None:
    """What the AttributeError for a name of the module `module` below `tf` says; None for a name that is not known."""
    instead = REPLACEMENTS.get(module, {}).get(name)
    if instead is None:
        return None
    full = ".".join(part for part in ("tf", module, name) if part)
    if instead.startswith(_NOTHING):
        return f"{full} is not needed here: {instead.removeprefix(_NOTHING)}."
    return f"{full} is not here. Use {instead}."


_NOTHING = "nothing: "


def as_markdown() -> str:
    """The table for the documentation."""
    lines = ["| TensorFlow | use instead |", "|---|---|"]
    for module, names, instead in ROWS:
        prefix = f"tf.{module}." if module else "tf."
        first, *others = names.split()
        lines.append(f"| {', '.join([f'`{prefix}{first}`', *(f'`{name}`' for name in others)])} | {instead} |")
    return "\n".join(lines) + "\n"
